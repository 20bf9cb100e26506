//! Two calls of EC2's Query API. Rule: they go through the SDK's own orchestrator, so that signature, retries, timeouts and the
//! way there are those of its clients; why it is none of them is in `docs/designs/0041-ec2-calls.md`.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_runtime::service_clock_skew::ServiceClockSkewInterceptor;
use aws_sdk_autoscaling::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_autoscaling::config::http::{HttpRequest, HttpResponse};
use aws_sdk_autoscaling::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_types::SigningName;
use aws_types::region::SigningRegion;

/// Version of the API, as each call names it.
const VERSION: &str = "2016-11-15";

/// A way to EC2 in one region.
#[derive(Clone, Debug)]
pub(crate) struct Ec2(Operation<String, String, ErrorMetadata>);

impl Ec2 {
    /// With all that the clients of the SDK are made of; the reason where that is not enough.
    pub(crate) async fn new(config: &SdkConfig) -> Result<Self, String> {
        let region = config.region().cloned().ok_or("no region is set")?;
        let credentials = config.credentials_provider().ok_or("no credentials are configured")?;
        let url = match config.endpoint_url() {
            Some(url) => url.to_owned(),
            None => endpoint(config).await?,
        };
        let mut layer = Layer::new("ec2");
        layer.store_put(AuthSchemeOptionResolverParams::new(()));
        layer.store_put(SigV4OperationSigningConfig {
            region: Some(SigningRegion::from(region)),
            name: Some(SigningName::from_static("ec2")),
            ..SigV4OperationSigningConfig::default()
        });
        let mut components = RuntimeComponentsBuilder::new("ec2");
        let schemes = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
        components.set_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(schemes)));
        components.push_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()));
        components.set_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(credentials));
        if let Some(cache) = config.identity_cache() {
            components.set_identity_cache(Some(cache));
        }
        if let Some(client) = config.http_client() {
            components.set_http_client(Some(client));
        }
        if let Some(sleep) = config.sleep_impl() {
            components.set_sleep_impl(Some(sleep));
        }
        let plugin = StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components);
        let mut builder = Operation::builder()
            .service_name("ec2")
            .operation_name("Query")
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&url)
            .with_connection_poisoning()
            .interceptor(ServiceClockSkewInterceptor::new())
            .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
            .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .runtime_plugin(plugin);
        if let Some(retries) = config.retry_config() {
            builder = builder.standard_retry(retries);
        }
        if let Some(timeouts) = config.timeout_config() {
            builder = builder.timeout_config(timeouts.clone());
        }
        Ok(Self(builder.serializer(request).deserializer(answer).build()))
    }

    /// The answer to one call, as XML.
    pub(crate) async fn call(
        &self,
        action: &str,
        parameters: &[(String, String)],
    ) -> Result<String, SdkError<ErrorMetadata, HttpResponse>> {
        let mut body = format!("Action={action}&Version={VERSION}");
        for (name, value) in parameters {
            for part in ["&", name, "=", &escaped(value)] {
                body.push_str(part);
            }
        }
        self.0.invoke(body).await
    }
}

/// EC2 stands where Auto Scaling does, under its own name, in all partitions.
async fn endpoint(config: &SdkConfig) -> Result<String, String> {
    let params = Params::builder()
        .set_region(config.region().map(|region| region.as_ref().to_owned()))
        .use_fips(config.use_fips().unwrap_or_default())
        .use_dual_stack(config.use_dual_stack().unwrap_or_default())
        .build()
        .map_err(|error| error.to_string())?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.map_err(|error| error.to_string())?;
    Ok(endpoint.url().replacen("autoscaling", "ec2", 1))
}

fn request(body: String) -> Result<HttpRequest, BoxError> {
    let request = http::Request::builder()
        .method("POST")
        .uri("/")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(SdkBody::from(body))?;
    Ok(request.try_into()?)
}

fn answer(response: &HttpResponse) -> Result<String, OrchestratorError<ErrorMetadata>> {
    let bytes = response.body().bytes().unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(OrchestratorError::other)?;
    if response.status().is_success() {
        return Ok(text.to_owned());
    }
    Err(OrchestratorError::operation(crate::ec2_xml::refusal(text)))
}

/// Percent-encoded, as a form carries it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    #[test]
    fn what_a_form_cannot_carry_is_escaped() {
        assert_eq!(escaped("Linux/UNIX a+b~c_d-e.f"), "Linux%2FUNIX%20a%2Bb~c_d-e.f");
        assert_eq!(escaped("ä"), "%C3%A4");
    }

    #[tokio::test]
    async fn ec2_is_found_in_each_partition() {
        let of = |region: &'static str, fips: bool, dual: bool| {
            SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::from_static(region))
                .use_fips(fips)
                .use_dual_stack(dual)
                .build()
        };
        for (region, fips, dual, url) in [
            ("eu-west-1", false, false, "https://ec2.eu-west-1.amazonaws.com"),
            ("us-east-1", true, false, "https://ec2-fips.us-east-1.amazonaws.com"),
            ("eu-west-1", false, true, "https://ec2.eu-west-1.api.aws"),
            ("cn-north-1", false, false, "https://ec2.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", false, false, "https://ec2.us-gov-west-1.amazonaws.com"),
        ] {
            assert_eq!(endpoint(&of(region, fips, dual)).await.unwrap(), url);
        }
    }
}
