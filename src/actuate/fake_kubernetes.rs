//! A small Kubernetes API on a local port, with faults on demand. Rule: it answers as Kubernetes documents: versions of
//! objects rise with each write, and a write of an old version is refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What comes instead of the next answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KubeFault {
    /// A status of Kubernetes: code, reason, message.
    Status(u16, &'static str, &'static str),
    /// An answer of something else that stands in the way.
    Html(u16),
    /// The connection stays open and silent.
    Hang,
    /// The connection closes before the answer.
    Drop,
    /// Somebody else writes every object right before this request.
    Meddle,
}

/// One object: the path at which it is, and itself.
#[derive(Clone, Debug)]
struct Stored {
    path: String,
    object: Value,
    version: u64,
}

#[derive(Debug)]
struct State {
    objects: Vec<Stored>,
    faults: VecDeque<Option<KubeFault>>,
    /// Method and path of each request.
    requests: Vec<String>,
    /// Bodies of the writes.
    writes: Vec<Value>,
}

/// A running API.
#[derive(Clone, Debug)]
pub(crate) struct FakeKubernetes {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl FakeKubernetes {
    /// With objects at their paths. Faults come from the first request on.
    pub(crate) async fn start(objects: &[(&str, Value)], faults: &[KubeFault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stored =
            |(path, object): &(&str, Value)| Stored { path: (*path).to_owned(), object: object.clone(), version: 1 };
        let state = State {
            objects: objects.iter().map(stored).collect(),
            faults: faults.iter().copied().map(Some).collect(),
            requests: Vec::new(),
            writes: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { url, state }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn writes(&self) -> Vec<Value> {
        self.state.lock().unwrap().writes.clone()
    }

    /// From now on, request by request.
    pub(crate) fn fail(&self, faults: &[Option<KubeFault>]) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    pub(crate) fn object(&self, path: &str) -> Value {
        let state = self.state.lock().unwrap();
        state.objects.iter().find(|one| one.path == path).map(|one| one.object.clone()).unwrap()
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some((method, path, body)) = read_request(&mut stream).await {
        let (status, kind, answer) = match next(&state, &method, &path, &body) {
            Reply::Answer(status, answer) => (status, "application/json", answer.to_string()),
            Reply::Html(status) => (status, "text/html", "<!doctype html><title>no</title>".to_owned()),
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all((head + &answer).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Method, path and body of the next request on a connection; `None` at its end.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?);
    let path = path.split('?').next()?.to_owned();
    Some((method, path, String::from_utf8(body).ok()?))
}

enum Reply {
    Answer(u16, Value),
    Html(u16),
    Close,
    Silence,
}

fn next(state: &Mutex<State>, method: &str, path: &str, body: &str) -> Reply {
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{method} {path}"));
    match state.faults.pop_front().flatten() {
        Some(KubeFault::Status(code, reason, message)) => return status(code, reason, message),
        Some(KubeFault::Html(code)) => return Reply::Html(code),
        Some(KubeFault::Hang) => return Reply::Silence,
        Some(KubeFault::Drop) => return Reply::Close,
        Some(KubeFault::Meddle) => state.objects.iter_mut().for_each(|one| one.version += 1),
        None => {}
    }
    if path == "/apis" {
        return Reply::Answer(200, discovery());
    }
    let (path, scale) = path.strip_suffix("/scale").map_or((path, false), |path| (path, true));
    let Some(index) = state.objects.iter().position(|one| one.path == path) else {
        return status(404, "NotFound", "the server could not find the requested resource");
    };
    if method == "GET" {
        return answer(&state.objects[index], scale);
    }
    let wanted: Value = serde_json::from_str(body).unwrap();
    let version = wanted["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    if version.is_some_and(|version| version != state.objects[index].version.to_string()) {
        return status(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        );
    }
    state.writes.push(wanted.clone());
    let stored = &mut state.objects[index];
    stored.version += 1;
    for (field, value) in wanted["spec"].as_object().unwrap() {
        stored.object["spec"][field] = value.clone();
    }
    answer(stored, scale)
}

fn answer(stored: &Stored, scale: bool) -> Reply {
    let mut object = stored.object.clone();
    object["metadata"]["resourceVersion"] = stored.version.to_string().into();
    if scale {
        object = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
            "spec": {"replicas": object["spec"]["replicas"]}, "status": {"replicas": 0},
        });
    }
    Reply::Answer(200, object)
}

fn status(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message,
    });
    Reply::Answer(code, body)
}

/// What a cluster serves, with two kinds of one name.
fn discovery() -> Value {
    let kind = |kind: &str, plural: &str, scope: &str, parts: &[&str]| {
        let parts: Vec<Value> = parts.iter().map(|part| json!({"subresource": part, "verbs": ["get"]})).collect();
        json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": scope,
               "verbs": ["get"], "subresources": parts})
    };
    let group = |name: &str, versions: Value| json!({"metadata": {"name": name}, "versions": versions});
    let scaled = ["scale", "status"];
    json!({
        "apiVersion": "apidiscovery.k8s.io/v2", "kind": "APIGroupDiscoveryList", "metadata": {},
        "items": [
            group("apps", json!([{"version": "v1", "resources": [
                kind("Deployment", "deployments", "Namespaced", &scaled),
                kind("DaemonSet", "daemonsets", "Namespaced", &["status"])]}])),
            group("karpenter.sh", json!([{"version": "v1", "resources": [
                kind("NodePool", "nodepools", "Cluster", &scaled)]}])),
            group("autoscaling.x-k8s.io", json!([
                {"version": "v1beta1", "resources": [kind("CapacityBuffer", "capacitybuffers", "Namespaced", &["status"])]},
                {"version": "v1alpha1", "resources": [kind("CapacityBuffer", "capacitybuffers", "Namespaced", &[])]}])),
            group("example.com", json!([{"version": "v2", "resources": [
                kind("Thing", "things", "Namespaced", &scaled), kind("Part", "parts", "Namespaced", &[])]}])),
            group("example.org", json!([{"version": "v1", "resources": [
                kind("Thing", "things", "Namespaced", &scaled), kind("Part", "parts", "Namespaced", &scaled)]}])),
        ],
    })
}
