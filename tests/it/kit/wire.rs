//! A wire to a server on this machine that can be cut, or swallow answers. Rule: bytes pass as they are.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// What the wire does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Whole,
    /// Connections are closed at once.
    Cut,
    /// Requests reach the server; of its answers nothing comes back, and the connection closes.
    Deaf,
}

pub(crate) struct Wire {
    port: u16,
    state: Arc<AtomicU8>,
}

impl Wire {
    /// To a server such as `http://127.0.0.1:5000`; its thread lives as long as the process of the test.
    #[track_caller]
    pub(crate) fn to(url: &str) -> Self {
        let server = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(AtomicU8::new(State::Whole as u8));
        let seen = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                thread::spawn(move || pass(client, &server, &seen));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
    }
}

fn pass(client: TcpStream, server: &str, state: &Arc<AtomicU8>) {
    let is = |wanted: State| state.load(Ordering::SeqCst) == wanted as u8;
    if is(State::Cut) {
        return;
    }
    let Ok(upstream) = TcpStream::connect(server) else { return };
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), upstream.try_clone()) else { return };
    let seen = Arc::clone(state);
    let requests = thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let cut = seen.load(Ordering::SeqCst) == State::Cut as u8;
            if cut || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    });
    let (mut from, mut to) = (upstream, client);
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !is(State::Whole) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
    drop(requests.join());
}
