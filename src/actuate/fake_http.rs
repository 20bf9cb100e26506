//! A small HTTP server on a local port that answers as it is told. Rule: it hears whole requests, and keeps them.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) what: String,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status, a header or none, body.
    Answer(u16, Option<(&'static str, String)>, String),
    /// The connection closes before the answer.
    Close,
    /// The connection stays open and silent.
    Silence,
}

/// A running server.
#[derive(Clone, Debug)]
pub(crate) struct FakeHttp {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }
}

impl FakeHttp {
    pub(crate) async fn start(answers: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                tokio::spawn(serve(stream, move |request| {
                    let reply = (answers.lock().unwrap())(&request);
                    heard.lock().unwrap().push(request);
                    reply
                }));
            }
        });
        Self { address, asked }
    }

    /// Method and path of each request so far.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.what.clone()).collect()
    }
}

async fn serve(stream: TcpStream, mut answer: impl FnMut(Asked) -> Reply) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let (status, header, body) = match answer(request) {
            Reply::Answer(status, header, body) => (status, header, body),
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
        };
        let header = header.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} x\r\n{header}content-length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let what = lines.first()?.rsplit_once(' ')?.0.to_owned();
    let headers: Vec<_> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut asked = Asked { what, headers, body: String::new() };
    let mut body = vec![0; asked.header("content-length").unwrap_or("0").parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}
