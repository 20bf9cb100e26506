//! What tests need of the world outside: where it is, and how to speak to it. Rule: a test that can't have something says
//! so by name and passes; under PRESCALE_TEST_REQUIRE, which CI sets, it fails.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod requests;
pub(crate) mod wire;

use std::env;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

const KAFKA_WAIT: Duration = Duration::from_secs(60);

/// Twice what the longest of them takes.
const RUN_LIMIT: Duration = Duration::from_secs(480);

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Bootstrap servers of a real Kafka.
pub(crate) fn kafka() -> Option<String> {
    given("PRESCALE_TEST_KAFKA", "Kafka")
}

/// URL of a schema registry, where Confluent's API begins.
pub(crate) fn registry() -> Option<String> {
    given("PRESCALE_TEST_REGISTRY", "schema registry")
}

/// URL of a moto server.
pub(crate) fn moto() -> Option<String> {
    given("PRESCALE_TEST_MOTO", "moto server")
}

/// URL of a CloudWatch that today's SDKs can ask: a translator before the moto server.
pub(crate) fn cloudwatch() -> Option<String> {
    given("PRESCALE_TEST_CLOUDWATCH", "CloudWatch")
}

/// URL of the recording proxy before the moto server.
pub(crate) fn aws_proxy() -> Option<String> {
    given("PRESCALE_TEST_AWS_PROXY", "recording proxy")
}

/// The API of a Docker Engine that has the image `prescale-test` and is a swarm of one node.
pub(crate) fn docker() -> Option<String> {
    given("PRESCALE_TEST_DOCKER", "Docker Engine")
}

/// A Kubernetes cluster: its kubeconfig.
pub(crate) fn kubeconfig() -> Option<PathBuf> {
    given("PRESCALE_TEST_KUBECONFIG", "Kubernetes").map(PathBuf::from)
}

/// What `kubectl` says of that cluster; it fails with what `kubectl` failed with.
#[track_caller]
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    kubectl_with(arguments, "")
}

/// The same, with standard input.
#[track_caller]
pub(crate) fn kubectl_with(arguments: &[&str], input: &str) -> String {
    let (worked, said) = run_kubectl(arguments, input);
    assert!(worked, "kubectl {arguments:?}: {said}");
    said
}

/// What it says when it must not work.
#[track_caller]
pub(crate) fn kubectl_refused(arguments: &[&str], input: &str) -> String {
    let (worked, said) = run_kubectl(arguments, input);
    assert!(!worked, "kubectl {arguments:?} works: {said}");
    said
}

/// Whether it worked, and what it said: on stdout where it did, else on both.
fn run_kubectl(arguments: &[&str], input: &str) -> (bool, String) {
    let program = env::var("PRESCALE_TEST_KUBE").expect("tests/run.sh sets it with PRESCALE_TEST_KUBECONFIG");
    let config = env::var("PRESCALE_TEST_KUBECONFIG").unwrap();
    let mut command = Command::new(program);
    command.args(["kubectl", "--kubeconfig", &config]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl starts");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { (true, out.into_owned()) } else { (false, format!("{err}{out}")) }
}

/// A headless-capable Chromium.
pub(crate) fn chromium() -> Option<String> {
    given("PRESCALE_TEST_CHROMIUM", "Chromium")
}

/// A Prometheus server; promtool lies beside it.
pub(crate) fn prometheus() -> Option<String> {
    given("PRESCALE_TEST_PROMETHEUS", "Prometheus")
}

/// The published schemas of Kubernetes, as a program that holds manifests to them.
pub(crate) fn kubernetes_validate() -> Option<String> {
    given("PRESCALE_TEST_KUBERNETES_VALIDATE", "kubernetes-validate")
}

/// Helm, as a program.
pub(crate) fn helm() -> Option<String> {
    given("PRESCALE_TEST_HELM", "Helm")
}

/// A Compose implementation.
pub(crate) fn compose() -> Option<String> {
    given("PRESCALE_TEST_COMPOSE", "Compose implementation")
}

/// The folder of real traces; their absence is no lack, generated ones stand in for them.
pub(crate) fn traces() -> Option<PathBuf> {
    let folder = env::var_os("PRESCALE_TRACES").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn given(variable: &str, thing: &str) -> Option<String> {
    if let Some(value) = env::var(variable).ok().filter(|value| !value.is_empty()) {
        return Some(value);
    }
    skipped(&format!("{thing} ({variable} is not set; run tests/run.sh)"));
    None
}

/// Says that this test passes for the lack of something.
pub(crate) fn skipped(lack: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: no {lack}", thread.name().unwrap_or("a test"));
    assert!(env::var_os("PRESCALE_TEST_REQUIRE").is_none(), "{line}");
    // Not through `eprintln!`, whose words the test harness keeps to itself when a test passes.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A name that no other test and no other run uses.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{:x}-{count}", nanos ^ (u128::from(std::process::id()) << 40))
}

/// A port of this machine that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `look` finds something; fails with `what` after `limit`.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The binary with `arguments`, in an environment in which AWS is what the tests started.
pub(crate) fn prescale(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prescale"));
    command.args(arguments).stdin(Stdio::null()).current_dir(root());
    command
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary to its end, which must come within [`RUN_LIMIT`].
#[track_caller]
pub(crate) fn run(arguments: &[&str]) -> Finished {
    let mut child = prescale(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (status, stdout, stderr) = std::thread::scope(|scope| {
        let out = scope.spawn(move || text(&mut stdout));
        let err = scope.spawn(move || text(&mut stderr));
        let start = Instant::now();
        let mut status = child.try_wait().unwrap();
        while status.is_none() && start.elapsed() < RUN_LIMIT {
            std::thread::sleep(Duration::from_millis(5));
            status = child.try_wait().unwrap();
        }
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        (status, out.join().unwrap(), err.join().unwrap())
    });
    let Some(status) = status else {
        panic!("`prescale {}` was still running after {RUN_LIMIT:?}:\n{stdout}\n{stderr}", arguments.join(" "))
    };
    Finished { code: status.code(), stdout, stderr }
}

fn text(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The binary in the background, ended with its holder. What it prints is in `log`.
pub(crate) struct Running {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(arguments: &[&str], log: &Path) -> Self {
        Self::spawn(prescale(arguments), log)
    }

    #[track_caller]
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        Self { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a crash does: no clean-up, no last words.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, such as `-STOP`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.id().to_string()]).status().unwrap().success());
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub(crate) fn finish(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        let log = &self.log;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            let printed = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(start.elapsed() < limit, "still running after {limit:?}:\n{}", printed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Status and body; a status of 400 and above is an answer like others.
#[track_caller]
pub(crate) fn http_get(url: &str) -> (u16, String) {
    let agent = agent();
    let mut answer = agent.get(url).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

/// Like [`http_get`], `None` where nothing answers.
pub(crate) fn try_http_get(url: &str) -> Option<(u16, String)> {
    let mut answer = agent().get(url).call().ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
}

/// Posts JSON.
#[track_caller]
pub(crate) fn http_post(url: &str, body: &str) -> (u16, String) {
    let mut answer = agent().post(url).header("content-type", "application/json").send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

/// Puts JSON.
#[track_caller]
pub(crate) fn http_put(url: &str, body: &str) -> (u16, String) {
    let mut answer = agent().put(url).header("content-type", "application/json").send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

#[track_caller]
pub(crate) fn http_delete(url: &str) -> (u16, String) {
    let mut answer = agent().delete(url).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

fn agent() -> ureq::Agent {
    let limit = Some(Duration::from_secs(30));
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(limit).build().into()
}

/// Runs Python with clients `autoscaling` and `ec2` of the moto server; the snippet leaves JSON-able data in `result`.
#[track_caller]
pub(crate) fn boto3(snippet: &str) -> Value {
    let python = env::var("PRESCALE_TEST_PYTHON").expect("a moto server comes with its Python");
    let script = format!(
        "import json, os, boto3\n\
         url = os.environ['PRESCALE_TEST_MOTO']\n\
         autoscaling = boto3.client('autoscaling', endpoint_url=url)\n\
         ec2 = boto3.client('ec2', endpoint_url=url)\n\
         s3 = boto3.client('s3', endpoint_url=url)\n\
         result = None\n\
         {snippet}\n\
         print(json.dumps(result, default=str))\n"
    );
    let output = Command::new(python).arg("-c").arg(&script).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs `tests/kit/aws_witness.py` against a server, and against the moto server for what both must answer alike.
pub(crate) fn aws_witness(url: &str, moto: &str) -> Finished {
    let python = env::var("PRESCALE_TEST_PYTHON").expect("a moto server comes with its Python");
    let mut command = Command::new(python);
    command.arg(root().join("tests/kit/aws_witness.py")).args([url, "--agree", moto]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Makes a spot-first group with a mixed-instances policy.
#[track_caller]
pub(crate) fn create_group(name: &str, min: u32, max: u32, desired: u32) {
    boto3(&format!(
        "image = ec2.describe_images(Owners=['amazon'])['Images'][0]['ImageId']\n\
         ec2.create_launch_template(LaunchTemplateName='{name}', LaunchTemplateData={{'ImageId': image, 'InstanceType': 'm5.large'}})\n\
         autoscaling.create_auto_scaling_group(AutoScalingGroupName='{name}', MinSize={min}, MaxSize={max},\n\
         \x20   DesiredCapacity={desired}, AvailabilityZones=['eu-west-1a'], MixedInstancesPolicy={{\n\
         \x20       'LaunchTemplate': {{'LaunchTemplateSpecification': {{'LaunchTemplateName': '{name}', 'Version': '$Latest'}},\n\
         \x20           'Overrides': [{{'InstanceType': 'm5.large'}}, {{'InstanceType': 'c5.large'}}]}},\n\
         \x20       'InstancesDistribution': {{'OnDemandBaseCapacity': 1, 'OnDemandPercentageAboveBaseCapacity': 20,\n\
         \x20           'SpotAllocationStrategy': 'price-capacity-optimized'}}}})"
    ));
}

/// The group as boto3 reads it, straight from the moto server.
#[track_caller]
pub(crate) fn group(name: &str) -> Value {
    boto3(&format!(
        "result = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=['{name}'])['AutoScalingGroups'][0]"
    ))
}

/// The calls about `group` that passed the proxy, in order.
#[track_caller]
pub(crate) fn proxy_log(proxy: &str, group: &str) -> Vec<Value> {
    let (status, body) = http_get(&format!("{proxy}/__log?group={group}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The capacities that were asked for and granted, in order.
#[track_caller]
pub(crate) fn granted_capacities(proxy: &str, group: &str) -> Vec<u32> {
    let calls = proxy_log(proxy, group);
    let granted = calls.iter().filter(|call| call["operation"] == "SetDesiredCapacity" && call["status"] == 200);
    granted.map(|call| call["parameters"]["DesiredCapacity"].as_str().unwrap().parse().unwrap()).collect()
}

/// Adds a rule of the proxy, see `tests/kit/proxy.py`.
#[track_caller]
pub(crate) fn proxy_rule(proxy: &str, rule: &Value) {
    let answer = agent().post(format!("{proxy}/__rules")).send(rule.to_string()).unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

/// One record of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Record {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_deref().unwrap()).unwrap()
    }
}

fn client(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka);
    config
}

#[track_caller]
pub(crate) fn create_topic(kafka: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<_> = client(kafka).create().unwrap();
    // As many copies as the brokers give without being asked.
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_WAIT));
    let results = runtime().block_on(admin.create_topics([&new], &options)).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Gives a topic more partitions.
#[track_caller]
pub(crate) fn add_partitions(kafka: &str, topic: &str, partitions: usize) {
    let admin: AdminClient<_> = client(kafka).create().unwrap();
    let new = NewPartitions::new(topic, partitions);
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_WAIT));
    let results = runtime().block_on(admin.create_partitions([&new], &options)).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Writes values to one partition, in order, and waits for the broker's word.
#[track_caller]
pub(crate) fn produce<V: AsRef<[u8]>>(kafka: &str, topic: &str, partition: i32, values: impl IntoIterator<Item = V>) {
    let mut config = client(kafka);
    config.set("enable.idempotence", "true").set("linger.ms", "20").set("queue.buffering.max.messages", "200000");
    let producer: BaseProducer = config.create().unwrap();
    for value in values {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(value.as_ref());
        while let Err((error, back)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full);
            producer.poll(Duration::from_millis(100));
            record = back;
        }
    }
    producer.flush(KAFKA_WAIT).unwrap();
}

/// Like [`consume`]; a topic that is not there yet has none.
#[track_caller]
pub(crate) fn try_consume(kafka: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = client(kafka).set("allow.auto.create.topics", "false").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), KAFKA_WAIT).unwrap();
    if metadata.topics()[0].partitions().is_empty() { Vec::new() } else { consume(kafka, topic) }
}

/// All records of a topic that are there now, by partition and offset; what aborted transactions left is not shown.
#[track_caller]
pub(crate) fn consume(kafka: &str, topic: &str) -> Vec<Record> {
    let mut config = client(kafka);
    config.set("group.id", unique("reader")).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), KAFKA_WAIT).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut records, mut left, start) = (Vec::new(), partitions.len(), Instant::now());
    while left > 0 {
        assert!(start.elapsed() < KAFKA_WAIT, "`{topic}` was not read to its end in {KAFKA_WAIT:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push(Record {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// A broker of one test alone, to be killed and brought back. Ended with its holder.
pub(crate) struct OwnKafka {
    folder: tempfile::TempDir,
    port: u16,
}

impl OwnKafka {
    /// `None` where there is no Kafka on this machine at all.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        kafka()?;
        let own = Self { folder: tempfile::tempdir().unwrap(), port: free_port_pair() };
        own.bring_up();
        Some(own)
    }

    /// A port on which no broker runs yet; [`OwnKafka::bring_up`] starts it.
    #[track_caller]
    pub(crate) fn not_yet() -> Option<Self> {
        kafka()?;
        Some(Self { folder: tempfile::tempdir().unwrap(), port: free_port_pair() })
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, on its old data where there are any.
    #[track_caller]
    pub(crate) fn bring_up(&self) {
        assert!(self.script("start", &[&self.port.to_string()]));
    }

    /// Ends it as a crash does.
    #[track_caller]
    pub(crate) fn kill(&self) {
        assert!(self.script("kill", &[]));
    }

    fn script(&self, verb: &str, more: &[&str]) -> bool {
        kit_script("kafka.sh", verb, self.folder.path(), more)
    }
}

/// Runs a script of the kit. What it starts outlives it and must not hold a pipe that somebody waits on.
fn kit_script(name: &str, verb: &str, folder: &Path, more: &[&str]) -> bool {
    let mut command = Command::new(root().join("tests/kit").join(name));
    command.arg(verb).arg(folder).args(more).stdin(Stdio::null()).stdout(Stdio::null());
    command.status().unwrap().success()
}

/// A schema registry of one test alone, to be killed and brought back. Ended with its holder.
pub(crate) struct OwnRegistry {
    folder: tempfile::TempDir,
    port: u16,
}

impl OwnRegistry {
    /// `None` where there is none on this machine at all.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        registry()?;
        let own = Self { folder: tempfile::tempdir().unwrap(), port: free_port_pair() };
        own.bring_up();
        Some(own)
    }

    /// Where Confluent's API begins.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// Starts it, with the schemas that it had.
    #[track_caller]
    pub(crate) fn bring_up(&self) {
        assert!(kit_script("registry.sh", "start", self.folder.path(), &[&self.port.to_string()]));
    }

    /// Ends it as a crash does.
    #[track_caller]
    pub(crate) fn kill(&self) {
        assert!(kit_script("registry.sh", "kill", self.folder.path(), &[]));
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        kit_script("registry.sh", "kill", self.folder.path(), &[]);
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.script("kill", &[]);
    }
}

/// A free port whose successor, the controller's, is free too. Below those that the system gives to clients.
fn free_port_pair() -> u16 {
    free_port_pairs(1)[0]
}

fn free_port_pairs(count: usize) -> Vec<u16> {
    let start = u16::try_from(std::process::id() % 5000).unwrap();
    let ports = (0..5000).map(|step| 10_000 + (start + step) % 5000 * 2);
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    ports.filter(|port| free(*port) && free(port + 1)).take(count).collect()
}
