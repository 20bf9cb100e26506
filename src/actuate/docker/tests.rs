//! What each failure of an engine becomes, and what is done when half of a change fails. That containers and services really
//! follow is proven with a real engine, in `tests/it/docker.rs`.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};
use serde_json::{Value, json};

use super::copy::Blueprint;
use super::group::{alive, members, next_numbers, ready, source, split_number, victims};
use super::{ContainerGroupSettings, SwarmServiceSettings};
use crate::fake_http::{Asked, FakeHttp, Reply};
use crate::{Actuator, Target, TargetSettings};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn decision(desired: u32, mode: Mode) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, mode);
    decision
}

fn says(body: Value) -> Reply {
    Reply::Answer(200, None, body.to_string())
}

fn refuses(status: u16, message: &str) -> Reply {
    Reply::Answer(status, None, json!({ "message": message }).to_string())
}

fn container(name: &str, state: &str, created: i64) -> Value {
    json!({"Id": format!("id-of-{name}"), "Names": [format!("/{name}")], "State": state, "Status": "Up 2 minutes",
           "Created": created, "Labels": {"app": "web"}})
}

/// An engine with one container and one service that answers other calls from a script first.
async fn engine(script: Vec<Reply>) -> FakeHttp {
    let mut script = VecDeque::from(script);
    FakeHttp::start(move |asked: &Asked| {
        if asked.what == "GET /version" {
            return says(json!({"ApiVersion": "1.41"}));
        }
        script.pop_front().unwrap_or_else(|| usual(&asked.what))
    })
    .await
}

fn usual(what: &str) -> Reply {
    // bollard leaves the version out of its paths.
    let what = what.replace("/v1.41", "");
    let path = what.split('?').next().unwrap_or_default();
    match path {
        "GET /containers/json" => says(json!([container("web-1", "running", 10)])),
        "GET /containers/id-of-web-1/json" => says(json!({
            "Id": "id-of-web-1", "Name": "/web-1", "Image": "sha256:1", "HostConfig": {"NetworkMode": "default"},
            "Config": {"Image": "web", "Labels": {"app": "web"}}, "NetworkSettings": {"Networks": {"bridge": {}}}})),
        "GET /images/web/json" => says(json!({"Id": "sha256:1"})),
        "POST /containers/create" => Reply::Answer(201, None, json!({"Id": "new", "Warnings": []}).to_string()),
        "GET /services/web" => says(json!({
            "ID": "s", "Version": {"Index": 7},
            "Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": 4}}, "TaskTemplate": {"Unheard": {"Of": 1}}}})),
        "GET /tasks" => says(json!([{"Status": {"State": "running"}}, {"Status": {"State": "preparing"}}])),
        "POST /services/web/update" => says(json!({"Warnings": null})),
        _ => Reply::Answer(204, None, String::new()),
    }
}

fn group_settings(host: &str) -> ContainerGroupSettings {
    ContainerGroupSettings {
        project: None,
        service: None,
        labels: [("app".to_owned(), "web".to_owned())].into(),
        host: host.to_owned(),
        timeout: Span::from_millis(2500),
        attempt_timeout: Span::from_millis(300),
        stop_grace: Span::ZERO,
        ..ContainerGroupSettings::compose("", "", 0, 20)
    }
}

fn group(engine: &FakeHttp) -> Target {
    TargetSettings::Docker(group_settings(&format!("tcp://{}", engine.address))).build().unwrap()
}

fn service(engine: &FakeHttp) -> Target {
    let settings = SwarmServiceSettings {
        host: format!("tcp://{}", engine.address),
        attempt_timeout: Span::from_millis(300),
        ..SwarmServiceSettings::new("web", 2, 20)
    };
    TargetSettings::Swarm(settings).build().unwrap()
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(6), call).await.expect("a target must answer within its own time limit")
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let cases = [
        (refuses(400, "bad parameter"), "invalid"),
        (refuses(401, "who?"), "denied"),
        (refuses(403, "authorization denied by plugin"), "denied"),
        (refuses(404, "no such thing"), "not-found"),
        (refuses(409, "in conflict"), "conflict"),
        (refuses(429, "slowly"), "throttled"),
        (refuses(500, "no space left on device"), "other"),
        (refuses(500, "rpc error: code = Unknown desc = update out of sequence"), "conflict"),
        (refuses(503, "This node is not a swarm manager."), "invalid"),
        (Reply::Answer(502, None, "<html>bad gateway</html>".to_owned()), "other"),
        (Reply::Answer(200, None, "<html>not an engine</html>".to_owned()), "other"),
        (Reply::Silence, "timeout"),
        (Reply::Close, "unreachable"),
    ];
    for (reply, code) in cases {
        for swarm in [false, true] {
            let engine = engine(vec![reply.clone(); 3]).await;
            let target = if swarm { service(&engine) } else { group(&engine) };
            let error = in_time(target.observe(NOW)).await.unwrap_err();
            assert_eq!(error.code(), code, "{reply:?} became: {error}");
            let operation =
                if swarm { "inspect service of swarm service `web`" } else { "list containers of containers" };
            assert!(error.to_string().starts_with(operation), "{error}");
        }
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreachable() {
    let nowhere = TargetSettings::Docker(group_settings("unix:///nowhere/docker.sock")).build().unwrap();
    let error = in_time(nowhere.observe(NOW)).await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
    assert!(
        error.to_string().contains("there is no socket /nowhere/docker.sock; is the Docker Engine running?"),
        "{error}"
    );
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = TargetSettings::Docker(group_settings(&format!("tcp://{free}"))).build().unwrap();
    assert_eq!(in_time(closed.observe(NOW)).await.unwrap_err().code(), "unreachable");
}

#[tokio::test]
async fn only_decisions_of_mode_act_are_applied() {
    for mode in [Mode::Observe, Mode::Recommend] {
        let engine = engine(Vec::new()).await;
        for target in [group(&engine), service(&engine)] {
            assert_eq!(target.apply(&decision(9, mode), NOW).await.unwrap_err().code(), "invalid");
        }
        assert_eq!(engine.heard(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_container_that_can_not_start_does_not_stay() {
    let listed = says(json!([container("web-1", "running", 10)]));
    let seen = usual("GET /v1.41/containers/id-of-web-1/json");
    let (image, made) = (usual("GET /v1.41/images/web/json"), usual("POST /v1.41/containers/create"));
    let engine = engine(vec![listed, seen, image, made, refuses(500, "no space left on device")]).await;
    let error = group(&engine).apply(&decision(2, Mode::Act), NOW).await.unwrap_err();
    assert!(error.code() == "other" && error.to_string().contains("start container"), "{error}");
    let heard = engine.heard();
    assert!(heard[4].starts_with("POST /containers/create?name=web-2"), "{heard:?}");
    assert_eq!(heard[5], "POST /containers/new/start");
    assert!(heard[6].starts_with("DELETE /containers/new?"), "{heard:?}");
}

#[tokio::test]
async fn a_slow_change_ends_with_the_target_s_time() {
    let engine = engine(vec![says(json!([container("web-1", "running", 10)])), Reply::Silence]).await;
    let settings = ContainerGroupSettings {
        attempt_timeout: Span::from_secs(1),
        timeout: Span::from_secs(1),
        stop_grace: Span::from_secs(60),
        template: Some(super::ContainerTemplate { image: "x".into(), name: Some("web".into()), ..Default::default() }),
        ..group_settings(&format!("tcp://{}", engine.address))
    };
    let target = TargetSettings::Docker(settings).build().unwrap();
    let error = in_time(target.apply(&decision(0, Mode::Act), NOW)).await.unwrap_err();
    assert_eq!(error.code(), "timeout", "{error}");
}

#[tokio::test]
async fn a_service_is_written_back_as_it_was_read_under_its_version() {
    let engine = engine(Vec::new()).await;
    let target = service(&engine);
    let state = target.observe(NOW).await.unwrap();
    assert_eq!((state.desired, state.ready), (4, Some(1)));
    let outcome = target.apply(&decision(50, Mode::Act), NOW).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 20, clamped: true });
    let asked = engine.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(asked.what, "POST /v1.41/services/web/update?version=7&registryAuthFrom=spec");
    let expected =
        json!({"Name": "web", "Mode": {"Replicated": {"Replicas": 20}}, "TaskTemplate": {"Unheard": {"Of": 1}}});
    assert_eq!(serde_json::from_str::<Value>(&asked.body).unwrap(), expected);
    assert_eq!(target.apply(&decision(4, Mode::Act), NOW).await.unwrap(), Outcome::Unchanged { units: 4 });
}

#[test]
fn a_list_of_containers_tells_the_group() {
    let mut listed = vec![
        container("web-1", "running", 10),
        container("web-10", "running", 40),
        container("web-2", "restarting", 20),
        container("web-3", "exited", 30),
        container("web-4", "removing", 30),
        container("web-5", "running", 50),
    ];
    listed[5]["Status"] = json!("Up 3 seconds (health: starting)");
    let mut one_off = container("web-run-1", "running", 60);
    one_off["Labels"]["com.docker.compose.oneoff"] = json!("True");
    listed.push(one_off);
    let listed: Vec<ContainerSummary> = serde_json::from_value(Value::from(listed)).unwrap();
    let group = members(listed);
    let names = |of: Vec<&super::group::Member>| of.into_iter().map(|member| member.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(group.iter().collect()), ["web-1", "web-2", "web-3", "web-5", "web-10"]);
    assert_eq!((alive(&group), ready(&group)), (4, 2));
    assert_eq!(names(victims(&group, 3)), ["web-5", "web-2", "web-10"]);
    assert_eq!(source(&group).unwrap().name, "web-10");
    assert_eq!(next_numbers(&group, 2), 11..13);
}

#[test]
fn names_end_in_a_number_or_do_not() {
    for (name, expected) in [
        ("shop-web-3", ("shop-web", "-", Some(3))),
        ("shop_web_12", ("shop_web", "_", Some(12))),
        ("web", ("web", "-", None)),
        ("web3", ("web3", "-", None)),
        ("-3", ("-3", "-", None)),
        ("3", ("3", "-", None)),
        ("web-99999999999", ("web-99999999999", "-", None)),
    ] {
        assert_eq!(split_number(name), expected, "{name}");
    }
}

/// What can't be had twice is not copied; everything else is, in the words of the API.
#[test]
fn a_copy_leaves_out_what_is_its_source_s_own() {
    let seen: ContainerInspectResponse = serde_json::from_value(json!({
        "Id": "0123456789abcdef", "Name": "/shop-web-1", "Image": "sha256:1",
        "Config": {"Hostname": "0123456789ab", "Image": "web:2", "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}},
                   "Labels": {"com.docker.compose.container-number": "1", "com.docker.compose.replace": "x", "a": "b"}},
        "HostConfig": {"NetworkMode": "front", "Memory": 5, "PortBindings": {
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "81/tcp": [{"HostIp": "", "HostPort": "9000-9010"}]}},
        "NetworkSettings": {"Networks": {
            "back": {"Aliases": ["web", "0123456789ab"], "IPAddress": "10.0.0.2", "NetworkID": "n"},
            "front": {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "Aliases": ["shop-web-1"]}}}
    }))
    .unwrap();
    let copy = Blueprint::copied(seen, None).unwrap().numbered(7);
    assert_eq!(copy.name, "shop-web-7");
    assert_eq!(
        serde_json::to_value(&copy.body).unwrap(),
        json!({
            "Image": "web:2", "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}},
            "Labels": {"com.docker.compose.container-number": "7", "a": "b"},
            "HostConfig": {"NetworkMode": "front", "Memory": 5, "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1"}], "81/tcp": [{"HostIp": "", "HostPort": "9000-9010"}]}},
            "NetworkingConfig": {"EndpointsConfig": {"front": {}}},
        })
    );
    let others: HashMap<_, _> = copy.others.into_iter().collect();
    assert_eq!(serde_json::to_value(others).unwrap(), json!({"back": {"Aliases": ["web"]}}));
}

#[test]
fn settings_are_checked() {
    let faults = |text: &str| serde_json::from_str::<TargetSettings>(text).unwrap().faults();
    assert_eq!(
        faults(r#"{"kind": "docker", "project": "shop", "service": "web", "min": 0, "max": 9}"#),
        Vec::<String>::new()
    );
    assert_eq!(
        faults(
            r#"{"kind": "docker", "min": 0, "max": 9, "host": "ssh://me", "timeout": "1s", "attempt_timeout": "2s",
                "template": {"cpus": 0.0}}"#
        ),
        [
            "nothing says which containers: set `project` and `service`, or `labels`",
            "host `ssh://me` is neither unix:///path/of/a/socket nor tcp://host:port",
            "timeout 1s is below attempt_timeout 2s",
            "template.image is empty",
            "template.name is not set, and no `project` and `service` give one",
            "template.cpus 0 is not above 0",
        ]
    );
    assert_eq!(
        faults(r#"{"kind": "docker", "project": "shop", "min": 0, "max": 9}"#),
        ["`project` and `service` belong together"]
    );
    assert_eq!(
        faults(r#"{"kind": "swarm", "service": "a/b", "min": 0, "max": 9, "attempt_timeout": "0s"}"#),
        ["service `a/b` is not a name of Docker's", "attempt_timeout 0s is not above 0s"]
    );
}
