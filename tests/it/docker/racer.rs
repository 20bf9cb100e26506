//! Somebody who changes a service right before each change of another: a socket in front of the engine's.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Passes on what it hears, but changes the service first when it is to be changed, so many times.
pub(super) struct Racer {
    pub(super) host: String,
    _folder: tempfile::TempDir,
}

impl Racer {
    pub(super) fn start(engine: &str, service: &str, times: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("racer.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (engine, service) = (engine.to_owned(), service.to_owned());
        let raced = Arc::new(AtomicU32::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, engine.clone(), service.clone(), Arc::clone(&raced), times));
            }
        });
        Self { host: format!("unix://{}", path.display()), _folder: folder }
    }
}

/// One connection, which is one request.
async fn pass(mut stream: UnixStream, engine: String, service: String, raced: Arc<AtomicU32>, times: u32) {
    let mut upstream = UnixStream::connect(engine.trim_start_matches("unix://")).await.unwrap();
    let mut head = vec![0; 64 * 1024];
    let length = stream.read(&mut head).await.unwrap();
    let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
    if line.starts_with("POST") && line.contains("/update") {
        let count = raced.fetch_add(1, Ordering::Relaxed) + 1;
        if count <= times {
            let label = format!("racer={count}");
            let words =
                ["service", "update", "--detach", "--quiet", "--label-add", &label, &service].map(str::to_owned);
            let change = move || drop(super::docker(&engine, &words.each_ref().map(String::as_str)));
            tokio::task::spawn_blocking(change).await.unwrap();
        }
    }
    upstream.write_all(&head[..length]).await.unwrap();
    // Either side may hang up first.
    drop(tokio::io::copy_bidirectional(&mut stream, &mut upstream).await);
}
