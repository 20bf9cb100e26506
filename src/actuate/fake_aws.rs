//! A small Auto Scaling service on a local port, speaking the real query protocol, with faults on demand. Rule: it answers
//! as AWS documents.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What comes instead of the next answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// An AWS error: HTTP status, code, message.
    Aws(u16, &'static str, &'static str),
    /// A 500 that is no AWS error, as an unimplemented operation of a simulator gives.
    Html,
    /// The connection stays open and silent.
    Hang,
    /// The connection closes before the answer.
    Drop,
}

/// The group that the service has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FakeGroup {
    pub(crate) desired: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

#[derive(Debug)]
struct State {
    group: FakeGroup,
    faults: VecDeque<Fault>,
}

/// A running service with the one group `web`.
#[derive(Clone, Debug)]
pub(crate) struct FakeAws {
    pub(crate) url: String,
}

impl FakeAws {
    pub(crate) async fn start(group: FakeGroup, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { group, faults: faults.iter().copied().collect() };
        let state = Arc::new(Mutex::new(state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        Self { url }
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(body) = read_request(&mut stream).await {
        let (status, kind, answer) = match next(&state, &body) {
            Reply::Answer(status, kind, answer) => (status, kind, answer),
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all((head + &answer).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The body of the next request on a connection; `None` at its end.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}

enum Reply {
    Answer(u16, &'static str, String),
    Close,
    Silence,
}

fn next(state: &Mutex<State>, body: &str) -> Reply {
    let mut state = state.lock().unwrap();
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let operation = field("Action").unwrap_or("?").to_owned();
    let capacity = field("DesiredCapacity").and_then(|text| text.parse::<u32>().ok());
    match state.faults.pop_front() {
        Some(Fault::Aws(status, code, message)) => return Reply::Answer(status, "text/xml", error(code, message)),
        Some(Fault::Html) => return Reply::Answer(500, "text/html", "<!doctype html><title>500</title>".to_owned()),
        Some(Fault::Hang) => return Reply::Silence,
        Some(Fault::Drop) => return Reply::Close,
        None => {}
    }
    match (operation.as_str(), capacity) {
        ("DescribeAutoScalingGroups", _) => {
            let asked = field("AutoScalingGroupNames.member.1").unwrap_or("web");
            Reply::Answer(200, "text/xml", describe(state.group, asked))
        }
        ("SetDesiredCapacity", Some(units)) => {
            state.group.desired = units;
            let done = "<SetDesiredCapacityResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
                        <ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></SetDesiredCapacityResponse>";
            Reply::Answer(200, "text/xml", done.to_owned())
        }
        _ => Reply::Answer(400, "text/xml", error("InvalidAction", "not an operation of this service")),
    }
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    )
}

/// The group as AWS describes it: `desired` healthy instances in service, one that is ill, and two in the warm pool.
fn describe(group: FakeGroup, asked: &str) -> String {
    let instance = |state: &str, health: &str| {
        format!(
            "<member><InstanceId>i-0</InstanceId><AvailabilityZone>a</AvailabilityZone><LifecycleState>{state}\
             </LifecycleState><HealthStatus>{health}</HealthStatus>\
             <ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>"
        )
    };
    let mut instances = instance("InService", "Healthy").repeat(group.desired as usize);
    instances += &instance("InService", "Unhealthy");
    instances += &instance("Warmed:Stopped", "Healthy");
    instances += &instance("Warmed:Pending", "Healthy");
    let FakeGroup { desired, min, max } = group;
    let member = format!(
        "<member><AutoScalingGroupName>web</AutoScalingGroupName><MinSize>{min}</MinSize><MaxSize>{max}</MaxSize>\
         <DesiredCapacity>{desired}</DesiredCapacity><DefaultCooldown>300</DefaultCooldown>\
         <HealthCheckType>EC2</HealthCheckType><CreatedTime>2026-01-01T00:00:00Z</CreatedTime>\
         <AvailabilityZones><member>a</member></AvailabilityZones><Instances>{instances}</Instances></member>"
    );
    let members = if asked == "web" { member } else { String::new() };
    format!(
        "<DescribeAutoScalingGroupsResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <DescribeAutoScalingGroupsResult><AutoScalingGroups>{members}</AutoScalingGroups>\
         </DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    )
}
