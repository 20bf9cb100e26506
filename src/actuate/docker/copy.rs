//! What a new container of a group is made of. Rule: pure; a copy differs from its source in what can't be had twice (name,
//! number, addresses, fixed ports of the host) and in nothing else.

use std::collections::HashMap;

use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, EndpointSettings, HostConfig, NetworkingConfig,
};

use super::containers::ContainerTemplate;
use super::group::{NUMBER, split_number};

/// Set by Compose on a container that replaces another; a copy replaces none.
const REPLACES: &str = "com.docker.compose.replace";

/// Networks that are no networks of their own: nothing is said of an endpoint there.
const SHARED: [&str; 2] = ["host", "none"];

/// All that new containers of a group have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blueprint {
    /// The name up to the number.
    prefix: String,
    body: ContainerCreateBody,
    /// Networks to join before the start: engines before API 1.44 take one endpoint with the creation.
    others: Vec<(String, EndpointSettings)>,
}

/// A new container, by its number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewContainer {
    pub(super) name: String,
    pub(super) body: ContainerCreateBody,
    pub(super) others: Vec<(String, EndpointSettings)>,
}

impl Blueprint {
    /// A copy of a container. `image` is what it was made of, where its image's name means another one by now.
    pub(super) fn copied(source: ContainerInspectResponse, image: Option<String>) -> Option<Self> {
        let name = source.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned();
        let id = source.id.unwrap_or_default();
        let short = id.get(..12).unwrap_or(&id).to_owned();
        let mut body = create_body(source.config?)?;
        if let Some(image) = image {
            body.image = Some(image);
        }
        // Who had no name of his own was called by his id.
        body.hostname = body.hostname.filter(|hostname| *hostname != short);
        let mut host = source.host_config.unwrap_or_default();
        loosen_ports(&mut host);
        host.container_id_file = None;
        let mode = host.network_mode.clone().unwrap_or_default();
        if mode == "host" || mode.starts_with("container:") {
            (body.hostname, body.exposed_ports) = (None, None);
        }
        body.host_config = Some(host);
        let mut networks: Vec<_> =
            source.network_settings.and_then(|settings| settings.networks)?.into_iter().collect();
        networks.retain(|(network, _)| !SHARED.contains(&network.as_str()));
        networks.sort_by_key(|(network, _)| (*network != mode, network.clone()));
        let others = join(&mut body, networks.into_iter().map(|(network, at)| (network, endpoint(at, &short, &name))));
        let (base, separator, _) = split_number(&name);
        Some(Self { prefix: format!("{base}{separator}"), body, others })
    }

    /// As the settings say.
    pub(super) fn configured(template: &ContainerTemplate, name: &str, labels: HashMap<String, String>) -> Self {
        let ContainerTemplate { image, command, environment, networks, memory_bytes, cpus, .. } = template;
        let host = HostConfig {
            memory: memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            nano_cpus: cpus.map(|cpus| (cpus * 1e9).round() as i64),
            network_mode: networks.first().cloned(),
            ..HostConfig::default()
        };
        let mut body = ContainerCreateBody {
            image: Some(image.clone()),
            cmd: (!command.is_empty()).then(|| command.clone()),
            env: Some(environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(labels),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let own = networks.iter().filter(|network| !SHARED.contains(&network.as_str()));
        let others = join(&mut body, own.map(|network| (network.clone(), EndpointSettings::default())));
        Self { prefix: format!("{name}-"), body, others }
    }

    pub(super) fn numbered(&self, number: u32) -> NewContainer {
        let mut body = self.body.clone();
        if let Some(labels) = &mut body.labels {
            labels.remove(REPLACES);
            if let Some(label) = labels.get_mut(NUMBER) {
                *label = number.to_string();
            }
        }
        NewContainer { name: format!("{}{number}", self.prefix), body, others: self.others.clone() }
    }
}

/// The first network goes into the body, the others are given back.
fn join(
    body: &mut ContainerCreateBody,
    mut networks: impl Iterator<Item = (String, EndpointSettings)>,
) -> Vec<(String, EndpointSettings)> {
    body.networking_config =
        networks.next().map(|first| NetworkingConfig { endpoints_config: Some(HashMap::from([first])) });
    networks.collect()
}

/// Both are the same object of the API, once as it is shown and once as it is asked for.
fn create_body(config: ContainerConfig) -> Option<ContainerCreateBody> {
    serde_json::from_value(serde_json::to_value(config).ok()?).ok()
}

/// A port of the host can be had once: the engine chooses another. A range has one for each.
fn loosen_ports(host: &mut HostConfig) {
    let bindings = host.port_bindings.iter_mut().flat_map(HashMap::values_mut).flatten().flatten();
    for binding in bindings {
        binding.host_port = binding.host_port.take().filter(|port| port.contains('-'));
    }
}

/// What its owner said of a container's place in a network; what the engine answered (addresses) is the container's own.
fn endpoint(source: EndpointSettings, short_id: &str, name: &str) -> EndpointSettings {
    let own = |alias: &String| alias != short_id && alias != name;
    let aliases = source.aliases.map(|aliases| aliases.into_iter().filter(own).collect::<Vec<_>>());
    EndpointSettings {
        aliases: aliases.filter(|aliases| !aliases.is_empty()),
        links: source.links,
        driver_opts: source.driver_opts,
        gw_priority: source.gw_priority,
        ..EndpointSettings::default()
    }
}
