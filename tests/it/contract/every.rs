//! One contract for every kind of target. Rule: what is there is told by somebody else than the target (the account's log,
//! the engine's and the cluster's own clients, the receiver), as a text that is another after each change.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prescale_actuate::wire::{Wire, WireAnswer};
use prescale_actuate::{
    Actuator, AheadBy, AsgSettings, ClusterSettings, Connections, ContainerGroupSettings, EksSettings, FleetSettings,
    KubernetesSettings, NodesSettings, Order, SimulatedSettings, SwarmServiceSettings, Target, TargetSettings,
    TenureWatch, WebhookSettings, carry_out, settle,
};
use prescale_domain::{Actuation, Mode, Outcome, Span, Timestamp};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{decision, targets, wish};
use crate::kit::{self, kubectl, kubectl_with};

/// A target that has 4 units, may have 2 to 20, and is told by another.
struct Subject {
    target: Target,
    told: Box<dyn Fn() -> String>,
    /// From a change to the next that it takes.
    rest: Duration,
    /// When the target was looked at last; each look is so much later.
    at: Timestamp,
}

impl Subject {
    fn new(target: Target, told: impl Fn() -> String + 'static) -> Self {
        let at = Timestamp::from_millis(1_800_000_000_000);
        Self { target, told: Box::new(told), rest: Duration::ZERO, at }
    }

    /// Lets the target come to rest with so many units.
    async fn settled(&mut self, units: u32) {
        let mut seen = None;
        for _ in 0..240 {
            self.at = self.at + Span::from_secs(60);
            seen = self.target.observe(self.at).await.ok();
            // Of what has nobody to make its units, nothing tells how many serve.
            if seen.is_some_and(|seen| seen.desired == units && seen.ready.is_none_or(|ready| ready == units)) {
                tokio::time::sleep(self.rest).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{}: {seen:?}, not {units} units", self.target.describe());
    }

    /// What holds of every target.
    async fn hold(mut self) {
        let name = self.target.describe();
        self.settled(4).await;
        // A dry run sends nothing.
        let before = (self.told)();
        for mode in [Mode::Observe, Mode::Recommend] {
            let refused = self.target.apply(&decision(9, mode), self.at).await.unwrap_err();
            assert_eq!(refused.code(), "invalid", "{name}: {refused}");
        }
        assert_eq!((self.told)(), before, "{name}: a dry run");
        // Twice is once.
        let outcome = self.target.apply(&wish(9), self.at).await.unwrap();
        assert_eq!(outcome, Outcome::Applied { units: 9, clamped: false }, "{name}");
        self.settled(9).await;
        let once = (self.told)();
        assert_ne!(once, before, "{name}: what was applied is seen by others");
        assert_eq!(self.target.apply(&wish(9), self.at).await.unwrap(), Outcome::Unchanged { units: 9 }, "{name}");
        assert_eq!((self.told)(), once, "{name}: applied twice");
        // It dies between the call and its record; the next life looks, and does nothing twice.
        let (decided, mut journal, mut records) = (wish(6), Vec::<Actuation>::new(), 0);
        let (due, alone) = ([(&decided, &self.target)], TenureWatch::default());
        let crashed = carry_out(&due, self.at, &alone, Order::Together, |batch| {
            records += 1;
            if records == 2 {
                return Err("killed");
            }
            journal.extend(batch.iter().cloned());
            Ok(())
        });
        assert_eq!(crashed.await.unwrap_err(), "killed", "{name}");
        let [begun] = &journal[..] else { panic!("{name}: {journal:?}") };
        assert_eq!(begun.outcome, Outcome::Started, "{name}");
        self.settled(6).await;
        let called = (self.told)();
        let found = self.target.observe(self.at).await.unwrap();
        let settled = settle(begun, decided.desired, &found);
        assert_eq!(settled.outcome, Outcome::Applied { units: 6, clamped: false }, "{name}");
        assert_eq!(self.target.apply(&decided, self.at).await.unwrap(), Outcome::Unchanged { units: 6 }, "{name}");
        assert_eq!((self.told)(), called, "{name}: after the crash");
        // Never outside its bounds.
        for (asked, units) in [(500, 20), (0, 2)] {
            let outcome = self.target.apply(&wish(asked), self.at).await.unwrap();
            assert_eq!(outcome, Outcome::Applied { units, clamped: true }, "{name}");
            self.settled(units).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_simulated_fleet_keeps_the_contract() {
    let fleet = FleetSettings { min: 2, max: 20, initial: 4, ..FleetSettings::default() };
    let target =
        TargetSettings::Simulated(SimulatedSettings { fleet, ..SimulatedSettings::default() }).build().unwrap();
    let Target::Simulated(simulated) = &target else { unreachable!("it was built as one") };
    let simulated = simulated.clone();
    Subject::new(target, move || simulated.snapshot().unwrap()).hold().await;
}

#[tokio::test(start_paused = true)]
async fn groups_of_an_account_keep_the_contract() {
    for (account, target) in targets().await {
        let changes = move || {
            let changes = account.operations(0).into_iter().filter(|operation| !operation.starts_with("Describe"));
            changes.count().to_string()
        };
        // A node group is still busy with an update when its nodes are there.
        Subject { rest: Duration::from_secs(60), ..Subject::new(target, changes) }.hold().await;
    }
}

fn docker(host: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).env("DOCKER_HOST", host).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn containers_keep_the_contract() {
    let Some(host) = kit::docker() else { return };
    let label = kit::unique("contract");
    let mark = format!("group={label}");
    for number in 1..=4 {
        let name = format!("{label}-{number}");
        docker(&host, &["run", "--detach", "--name", &name, "--label", &mark, "prescale-test", "sleep", "3600"]);
    }
    let settings = ContainerGroupSettings {
        project: None,
        service: None,
        labels: [("group".to_owned(), label)].into(),
        host: host.clone(),
        stop_grace: Span::ZERO,
        ..ContainerGroupSettings::compose("", "", 2, 20)
    };
    let filter = format!("label={mark}");
    let told = {
        let (host, filter) = (host.clone(), filter.clone());
        move || docker(&host, &["ps", "--all", "--no-trunc", "--filter", &filter, "--format", "{{.ID}}"])
    };
    Subject::new(TargetSettings::Docker(settings).build().unwrap(), told).hold().await;
    for id in docker(&host, &["ps", "--all", "--quiet", "--filter", &filter]).lines() {
        docker(&host, &["rm", "--force", id]);
    }
}

#[tokio::test]
async fn a_swarm_service_keeps_the_contract() {
    let Some(host) = kit::docker() else { return };
    let name = kit::unique("contract");
    let create =
        ["service", "create", "--detach", "--name", &name, "--replicas", "4", "prescale-test", "sleep", "3600"];
    docker(&host, &create);
    let settings = SwarmServiceSettings { host: host.clone(), ..SwarmServiceSettings::new(&name, 2, 20) };
    let told = {
        let (host, name) = (host.clone(), name.clone());
        move || docker(&host, &["service", "inspect", "--format", "{{.Version.Index}}", &name])
    };
    Subject::new(TargetSettings::Swarm(settings).build().unwrap(), told).hold().await;
    docker(&host, &["service", "rm", &name]);
}

#[tokio::test]
async fn a_workload_and_what_goes_ahead_of_it_keep_the_contract() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = kit::unique("contract");
    kubectl(&["create", "namespace", &space]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": space},
        "spec": {
            "replicas": 4, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "nodeSelector": {"pool": space}, "containers": [{"name": "c", "image": "none"}],
            }},
        },
    });
    let pool = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": space},
        "spec": {"replicas": 4, "template": {"spec": {
            "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"},
            "requirements": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}}},
    });
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": space, "labels": {"pool": space}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
                   "capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"}},
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [node, deployment, pool]});
    kubectl_with(&["apply", "--server-side", "-f", "-"], &list.to_string());
    let cluster = ClusterSettings {
        kubeconfig: Some(kubeconfig),
        timeout: Span::from_secs(60),
        attempt_timeout: Span::from_secs(20),
        ..ClusterSettings::default()
    };
    let generation = |object: String| {
        let space = space.clone();
        move || kubectl(&["get", &object, "--namespace", &space, "--output", "jsonpath={.metadata.generation}"])
    };
    let workload = KubernetesSettings {
        namespace: space.clone(),
        cluster: cluster.clone(),
        ..KubernetesSettings::new("Deployment/web".parse().unwrap(), 2, 20)
    };
    let workload = TargetSettings::Kubernetes(workload).build().unwrap();
    Subject::new(workload, generation("deployment/web".to_owned())).hold().await;
    let ahead = NodesSettings { cluster, ..NodesSettings::new(AheadBy::NodePool, &space, None, 2, 20) };
    let ahead = TargetSettings::KubernetesNodes(ahead).build().unwrap();
    Subject::new(ahead, generation(format!("nodepool/{space}"))).hold().await;
    kubectl(&["delete", "nodepool", &space, "--wait=false"]);
    kubectl(&["delete", "namespace", &space, "--wait=false"]);
    kubectl(&["delete", "node", &space]);
}

#[tokio::test]
async fn a_webhook_keeps_the_contract() {
    let units = Arc::new(Mutex::new((4_u64, 0)));
    let taken = Arc::clone(&units);
    let address = serve(move |request| {
        let mut units = taken.lock().unwrap();
        if let Some((_, body)) = request.split_once("\r\n\r\n").filter(|_| request.starts_with("POST")) {
            let asked: serde_json::Value = serde_json::from_str(body).unwrap();
            *units = (asked["desired"].as_u64().unwrap(), units.1 + 1);
        }
        let body = json!({"desired": units.0, "ready": units.0, "min": 2, "max": 20}).to_string();
        Answer::Is(200, "application/json", body)
    })
    .await;
    let url = format!("http://{address}/");
    let settings = WebhookSettings { observe_url: Some(url.clone()), ..WebhookSettings::new(&url, "s3cret", 0, 50) };
    let told = move || format!("{:?}", units.lock().unwrap());
    Subject::new(TargetSettings::Webhook(settings).build().unwrap(), told).hold().await;
}

/// What a server does that is out of order.
#[derive(Clone)]
enum Answer {
    Is(u16, &'static str, String),
    Closes,
    IsSilent,
}

/// A server on a port of its own.
async fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, answer) = (listener.local_addr().unwrap().to_string(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { drop(converse(stream, &*answer).await) });
        }
    });
    address
}

/// One request, one answer.
async fn converse(mut stream: TcpStream, answer: &(dyn Fn(&str) -> Answer + Send + Sync)) -> std::io::Result<()> {
    let mut heard = Vec::new();
    let whole = |heard: &[u8]| {
        let text = String::from_utf8_lossy(heard).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        (body.len() >= length.unwrap_or(0)).then_some(text)
    };
    let request = loop {
        if let Some(request) = whole(&heard) {
            break request;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            read => heard.extend(&piece[..read]),
        }
    };
    match answer(&request) {
        Answer::Closes => Ok(()),
        Answer::IsSilent => std::future::pending().await,
        Answer::Is(status, kind, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nconnection: close\r\n");
            stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).await
        }
    }
}

/// Every kind of target that is reached over HTTP, with this address in place of its endpoint.
fn reached_at(address: &str, folder: &std::path::Path) -> Vec<Target> {
    let (patience, attempt) = (Span::from_secs(3), Span::from_secs(1));
    let url = format!("http://{address}");
    let kubeconfig = folder.join("kubeconfig.json");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let cluster = ClusterSettings {
        kubeconfig: Some(kubeconfig),
        timeout: patience,
        attempt_timeout: attempt,
        ..ClusterSettings::default()
    };
    let (region, host) = (Some("eu-west-1".to_owned()), format!("tcp://{address}"));
    let (timeout, attempt_timeout) = (patience, attempt);
    let all = [
        TargetSettings::AwsAsg(AsgSettings {
            region: region.clone(),
            timeout,
            attempt_timeout,
            ..AsgSettings::new("web", 0, 50)
        }),
        TargetSettings::EksNodegroup(EksSettings {
            region,
            timeout,
            attempt_timeout,
            ..EksSettings::new("prod", "web", 0, 50)
        }),
        TargetSettings::Docker(ContainerGroupSettings {
            host: host.clone(),
            timeout,
            attempt_timeout,
            ..ContainerGroupSettings::compose("shop", "web", 0, 50)
        }),
        TargetSettings::Swarm(SwarmServiceSettings {
            host,
            timeout,
            attempt_timeout,
            ..SwarmServiceSettings::new("web", 0, 50)
        }),
        TargetSettings::Kubernetes(KubernetesSettings {
            cluster: cluster.clone(),
            ..KubernetesSettings::new("Deployment/web".parse().unwrap(), 0, 50)
        }),
        TargetSettings::KubernetesNodes(NodesSettings {
            cluster,
            ..NodesSettings::new(AheadBy::NodePool, "web", None, 0, 50)
        }),
        TargetSettings::Webhook(WebhookSettings {
            observe_url: Some(url.clone()),
            timeout,
            attempt_timeout,
            ..WebhookSettings::new(&url, "s3cret", 0, 50)
        }),
    ];
    let through = through(address);
    all.iter().map(|settings| settings.build_in(&through).unwrap()).collect()
}

/// The AWS SDK's way to the address, without credentials of this machine.
fn through(address: &str) -> Connections {
    let address = address.to_owned();
    Connections::over(&Wire::new(move |request| {
        let address = address.clone();
        async move {
            let ask = async {
                let mut stream = TcpStream::connect(&address).await?;
                let head = format!("{} {} HTTP/1.1\r\nhost: aws\r\n", request.method, request.path);
                stream.write_all(format!("{head}content-length: {}\r\n\r\n", request.body.len()).as_bytes()).await?;
                stream.write_all(&request.body).await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.map(|_| answer)
            };
            let answer: Result<String, std::io::Error> = ask.await;
            let read = answer.ok().and_then(|answer| {
                let (head, body) = answer.split_once("\r\n\r\n")?;
                let status = head.split(' ').nth(1)?.parse().ok()?;
                let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
                let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Some(WireAnswer::Reply { status, headers, body: body.as_bytes().to_vec(), after: Span::ZERO })
            });
            read.unwrap_or(WireAnswer::Dropped { after: Span::ZERO })
        }
    }))
}

/// One table of what each failure becomes: a status alone says little to those whose answers carry a code (AWS).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_http_has_a_kind_for_every_target_and_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let page = |status| Answer::Is(status, "text/html", "<html><body>no</body></html>".to_owned());
    let plain = |status| Answer::Is(status, "application/json", json!({"message": "no", "code": status}).to_string());
    let mut failures = vec![("200 with a page", page(200)), ("502 with a page", page(502))];
    let statuses = [
        (400, "400"),
        (401, "401"),
        (403, "403"),
        (404, "404"),
        (409, "409"),
        (422, "422"),
        (429, "429"),
        (500, "500"),
        (503, "503"),
    ];
    failures.extend(statuses.map(|(status, name)| (name, plain(status))));
    failures.extend([("closes", Answer::Closes), ("is silent", Answer::IsSilent)]);
    let mut table = String::new();
    let mut row = |name: &str, codes: &[(&'static str, String)]| {
        if table.is_empty() {
            let heads: Vec<String> = codes.iter().map(|(kind, _)| format!("{kind:<13}")).collect();
            table = format!("{:<16} {}\n", "", heads.join(" ").trim_end());
        }
        let cells: Vec<String> = codes.iter().map(|(_, code)| format!("{code:<13}")).collect();
        table.push_str(format!("{name:<16} {}", cells.join(" ")).trim_end());
        table.push('\n');
    };
    for (name, answer) in failures {
        let address = serve(move |_| answer.clone()).await;
        row(name, &kinds(&address, folder.path()).await);
    }
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    row("nobody there", &kinds(&gone, folder.path()).await);
    assert_eq!(table, include_str!("failures.txt"), "{table}");
}

/// What becomes of a look and of a change, for each kind; they agree.
async fn kinds(address: &str, folder: &std::path::Path) -> Vec<(&'static str, String)> {
    let names = ["aws-asg", "eks", "docker", "swarm", "kubernetes", "nodes", "webhook"];
    let at = Timestamp::from_millis(1_800_000_000_000);
    let asked = reached_at(address, folder).into_iter().map(|target| {
        tokio::spawn(async move {
            let began = std::time::Instant::now();
            let looked = target.observe(at).await.unwrap_err();
            let changed = target.apply(&wish(9), at + Span::from_secs(60)).await.unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(20), "{}: {:?}", target.describe(), began.elapsed());
            if looked.code() == changed.code() {
                looked.code().to_owned()
            } else {
                format!("{}/{}", looked.code(), changed.code())
            }
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut kinds = Vec::new();
    for (name, asked) in names.into_iter().zip(asked) {
        kinds.push((name, asked.await.unwrap()));
    }
    kinds
}
