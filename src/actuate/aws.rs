//! Accounts of AWS as seen from here. Rule: targets of one account and region share its client and its rate, so that
//! Prescale as a whole stays below what AWS allows; all groups that are looked at in one tick are looked at together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use prescale_domain::{Span, Timestamp};
use prescale_telemetry::actuate::CloudCall;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;

use crate::aws_error::from_sdk;
use crate::aws_group::Group;
use crate::aws_pools::Pools;
use crate::bucket::{Bucket, Rate};
use crate::ec2::Ec2;
use crate::wire::Wire;
use crate::{ActuateError, Failure};

/// The first wait between two attempts; the SDK doubles it and draws a share of it.
const BACKOFF_FIRST: Span = Span::from_millis(500);
/// Names in one call, the most that AWS takes with `MaxRecords`.
const NAMES_PER_CALL: usize = 100;
/// AWS publishes no figure for the bucket that all calls of Auto Scaling in an account share.
const RATE: Rate = Rate { burst: 250.0, per_second: 20.0 };
/// EC2 has buckets of its own; AWS's example for calls that describe is 100, and 20 a second.
const EC2_RATE: Rate = Rate { burst: 50.0, per_second: 10.0 };
/// What was seen this long ago is looked at again before it is changed.
const FRESH: Span = Span::from_secs(10);

/// Where an account is, and how patient its callers are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) endpoint_url: Option<String>,
    pub(crate) region: Option<String>,
    /// Limit of one call with all its attempts, and of one attempt.
    pub(crate) timeout: Span,
    pub(crate) attempt_timeout: Span,
    pub(crate) max_attempts: u32,
}

/// The accounts that targets share; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    accounts: Arc<Mutex<BTreeMap<Place, Arc<Account>>>>,
    given: Option<Given>,
}

/// In place of what the machine's environment says.
#[derive(Clone, Debug)]
struct Given {
    credentials: Credentials,
    http: Option<SharedHttpClient>,
    /// The account's clock is that of the data.
    in_event_time: bool,
}

impl Connections {
    /// Accounts that are reached with these credentials, and through this client where one is given: nothing is looked up
    /// on the machine.
    pub fn with(credentials: Credentials, http: Option<SharedHttpClient>) -> Self {
        Self { accounts: Arc::default(), given: Some(Given { credentials, http, in_event_time: false }) }
    }

    /// Accounts at the other end of `wire`, with credentials that are worth nothing.
    pub fn over(wire: &Wire) -> Self {
        let credentials =
            Credentials::builder().access_key_id("AKIDWIRE").secret_access_key("wire").provider_name("wire").build();
        Self::with(credentials, Some(wire.http_client()))
    }

    /// The same, where the account's clock is that of the data, as a simulated one's may be: what is seen there counts in a
    /// replay, and no rate of calls in wall time means anything.
    #[must_use]
    pub fn in_event_time(mut self) -> Self {
        if let Some(given) = &mut self.given {
            given.in_event_time = true;
        }
        self
    }

    pub(crate) fn account(&self, place: Place) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.entry(place).or_insert_with_key(|place| {
            Arc::new(Account {
                place: place.clone(),
                given: self.given.clone(),
                config: OnceCell::new(),
                autoscaling: OnceCell::new(),
                eks: OnceCell::new(),
                sqs: OnceCell::new(),
                ec2: OnceCell::new(),
                started: Instant::now(),
                bucket: Mutex::new(Bucket::new(RATE, Timestamp::from_millis(0))),
                ec2_bucket: Mutex::new(Bucket::new(EC2_RATE, Timestamp::from_millis(0))),
                names: Mutex::default(),
                split: Mutex::default(),
                seen: AsyncMutex::default(),
                pools: AsyncMutex::default(),
            })
        });
        Arc::clone(account)
    }
}

/// One account and region.
#[derive(Debug)]
pub(crate) struct Account {
    place: Place,
    given: Option<Given>,
    config: OnceCell<SdkConfig>,
    autoscaling: OnceCell<Client>,
    eks: OnceCell<aws_sdk_eks::Client>,
    sqs: OnceCell<aws_sdk_sqs::Client>,
    ec2: OnceCell<Ec2>,
    started: Instant,
    bucket: Mutex<Bucket>,
    ec2_bucket: Mutex<Bucket>,
    /// Groups that somebody looks at.
    names: Mutex<BTreeSet<String>>,
    /// Those whose capacity is split.
    split: Mutex<BTreeMap<String, SplitGroup>>,
    seen: AsyncMutex<Seen>,
    pub(crate) pools: AsyncMutex<Pools>,
}

/// A group that is part of a split.
#[derive(Clone, Debug)]
pub(crate) struct SplitGroup {
    /// Instance types that spot instances may be of.
    pub(crate) types: Vec<String>,
    /// It has instances of both kinds: which are spot is EC2's to say.
    pub(crate) is_mixed: bool,
}

/// The last look at all groups.
#[derive(Debug, Default)]
struct Seen {
    /// Which tick it belongs to, and when it was.
    at: Option<(Timestamp, Instant)>,
    groups: Option<Result<BTreeMap<String, Group>, ActuateError>>,
    /// Groups that were asked for.
    names: BTreeSet<String>,
    /// Groups that were told of it: who asks again wants another look.
    told: BTreeSet<String>,
}

impl Account {
    /// A group that will be looked at.
    pub(crate) fn register(&self, group: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned());
    }

    /// A group that is part of a split.
    pub(crate) fn register_split(&self, group: &str, split: SplitGroup) {
        self.split.lock().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned(), split);
    }

    pub(crate) fn split_groups(&self) -> BTreeMap<String, SplitGroup> {
        self.split.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the SDK needs. Looking up the region may ask the machine's metadata service, so this too has a limit.
    pub(crate) async fn config(&self, target: &str) -> Result<&SdkConfig, ActuateError> {
        let failure = |detail: String| Failure { operation: "connect", target: target.to_owned(), detail };
        let loading = self.config.get_or_init(|| load(&self.place, self.given.as_ref()));
        let limit = self.place.timeout;
        let config = tokio::time::timeout(limit.to_std(), loading)
            .await
            .map_err(|_| ActuateError::Timeout(failure(format!("no region within {limit}"))))?;
        if config.region().is_none() {
            let detail = "no region is set\nhint: set `region` of the target, or AWS_REGION".to_owned();
            return Err(ActuateError::Invalid(failure(detail)));
        }
        Ok(config)
    }

    pub(crate) async fn autoscaling(&self, target: &str) -> Result<&Client, ActuateError> {
        let config = self.config(target).await?;
        Ok(self.autoscaling.get_or_init(async || Client::new(config)).await)
    }

    pub(crate) async fn eks(&self, target: &str) -> Result<&aws_sdk_eks::Client, ActuateError> {
        let config = self.config(target).await?;
        Ok(self.eks.get_or_init(async || aws_sdk_eks::Client::new(config)).await)
    }

    pub(crate) async fn sqs(&self, target: &str) -> Result<&aws_sdk_sqs::Client, ActuateError> {
        let config = self.config(target).await?;
        Ok(self.sqs.get_or_init(async || aws_sdk_sqs::Client::new(config)).await)
    }

    pub(crate) async fn ec2(&self, target: &str) -> Result<&Ec2, ActuateError> {
        let config = self.config(target).await?;
        let made = self.ec2.get_or_try_init(async || Ec2::new(config).await).await;
        made.map_err(|detail| {
            ActuateError::Invalid(Failure { operation: "connect", target: target.to_owned(), detail })
        })
    }

    /// Whether its clock is that of the data.
    pub(crate) fn follows_event_time(&self) -> bool {
        self.given.as_ref().is_some_and(|given| given.in_event_time)
    }

    /// Waits for its turn to call; refuses where the turn would come later than the call may take.
    pub(crate) async fn turn(&self, operation: &'static str, target: &str) -> Result<(), ActuateError> {
        self.turn_in(&self.bucket, operation, target).await
    }

    /// The same for EC2.
    pub(crate) async fn turn_in_ec2(&self, operation: &'static str, target: &str) -> Result<(), ActuateError> {
        self.turn_in(&self.ec2_bucket, operation, target).await
    }

    /// One call, in its turn; `operation` is ours, `name` is AWS's.
    pub(crate) async fn call<T, E>(
        &self,
        target: &str,
        (operation, name): (&'static str, &'static str),
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, ActuateError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.turn(operation, target).await?;
        let failure = Failure { operation, target: target.to_owned(), detail: String::new() };
        let answer = call.await.map_err(|error| from_sdk(&error, failure));
        CloudCall { operation: name, failure: answer.as_ref().err().map(ActuateError::code) }.emit();
        answer
    }

    async fn turn_in(&self, bucket: &Mutex<Bucket>, operation: &'static str, target: &str) -> Result<(), ActuateError> {
        if self.follows_event_time() {
            return Ok(());
        }
        let deadline = self.now() + self.place.timeout;
        loop {
            let now = self.now();
            let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now);
            let Err(wait) = taken else { return Ok(()) };
            if now + wait > deadline {
                let detail = "Prescale's own rate for this account is used up".to_owned();
                return Err(ActuateError::Throttled(Failure { operation, target: target.to_owned(), detail }));
            }
            tokio::time::sleep(wait.to_std()).await;
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// The group as it is at the tick `now`: one look serves all groups of a tick, and each of them once.
    pub(crate) async fn look(&self, group: &str, target: &str, now: Timestamp) -> Result<Group, ActuateError> {
        let mut seen = self.seen.lock().await;
        let is_new = seen.at.is_none_or(|(at, _)| at != now) || !seen.names.contains(group);
        if is_new || seen.told.contains(group) {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let groups = Some(self.describe(&names, target).await);
            *seen = Seen { at: Some((now, Instant::now())), groups, names, told: BTreeSet::new() };
        }
        seen.told.insert(group.to_owned());
        self.of(&seen, group, target)
    }

    /// The group as this tick's look has it, where that is fresh enough to act on.
    pub(crate) async fn fresh(&self, group: &str, target: &str, now: Timestamp) -> Result<Group, ActuateError> {
        {
            let seen = self.seen.lock().await;
            let fresh = |(at, when): (Timestamp, Instant)| at == now && when.elapsed() < FRESH.to_std();
            let known = matches!(&seen.groups, Some(Ok(groups)) if groups.contains_key(group));
            if known && seen.at.is_some_and(fresh) {
                return self.of(&seen, group, target);
            }
        }
        self.look(group, target, now).await
    }

    /// Of these groups, those that the last look has seen.
    pub(crate) async fn seen_of(&self, names: impl Iterator<Item = &String>) -> BTreeMap<String, Group> {
        let seen = self.seen.lock().await;
        let Some(Ok(groups)) = &seen.groups else { return BTreeMap::new() };
        names.filter_map(|name| Some((name.clone(), groups.get(name)?.clone()))).collect()
    }

    /// What a change made of the group; `None` = that is not known.
    pub(crate) async fn changed(&self, group: &str, becomes: Option<Group>) {
        let mut seen = self.seen.lock().await;
        let Some(Ok(groups)) = &mut seen.groups else { return };
        match becomes {
            Some(becomes) => groups.insert(group.to_owned(), becomes),
            None => groups.remove(group),
        };
    }

    fn of(&self, seen: &Seen, group: &str, target: &str) -> Result<Group, ActuateError> {
        let found = match &seen.groups {
            Some(Ok(groups)) => groups.get(group),
            Some(Err(error)) => return Err(error.about(target)),
            None => None,
        };
        found.cloned().ok_or_else(|| {
            let region = self.config.get().and_then(SdkConfig::region).map(Region::as_ref).unwrap_or_default();
            let detail = format!("no group of this name in {region}");
            ActuateError::NotFound(Failure { operation: DESCRIBE, target: target.to_owned(), detail })
        })
    }

    async fn describe(&self, names: &BTreeSet<String>, target: &str) -> Result<BTreeMap<String, Group>, ActuateError> {
        let names: Vec<String> = names.iter().cloned().collect();
        let client = self.autoscaling(target).await?;
        let mut found = BTreeMap::new();
        for names in names.chunks(NAMES_PER_CALL) {
            let mut next = None;
            loop {
                let call = client.describe_auto_scaling_groups().set_auto_scaling_group_names(Some(names.to_vec()));
                let call = call.max_records(NAMES_PER_CALL as i32).set_next_token(next);
                let answer = self.call(target, (DESCRIBE, "DescribeAutoScalingGroups"), call.send()).await?;
                for group in answer.auto_scaling_groups() {
                    if let Some(name) = group.auto_scaling_group_name() {
                        found.insert(name.to_owned(), Group::from(group));
                    }
                }
                next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }
}

const DESCRIBE: &str = "describe group";

async fn load(place: &Place, given: Option<&Given>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(place.attempt_timeout.to_std())
        .operation_attempt_timeout(place.attempt_timeout.to_std())
        .operation_timeout(place.timeout.to_std())
        .build();
    let retries =
        RetryConfig::standard().with_max_attempts(place.max_attempts).with_initial_backoff(BACKOFF_FIRST.to_std());
    let region = place.region.clone().map(Region::new);
    if let Some(Given { credentials, http, .. }) = given {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .region(region.unwrap_or(Region::from_static("us-east-1")))
            .timeout_config(timeouts)
            .retry_config(retries);
        config.set_http_client(http.clone()).set_endpoint_url(place.endpoint_url.clone());
        return config.build();
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts).retry_config(retries);
    if let Some(region) = region {
        loader = loader.region(region);
    }
    if let Some(url) = &place.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}
