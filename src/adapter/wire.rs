//! Connections, with TLS or without, for HTTP and gRPC alike. Rule: who is slow to shake hands holds nobody else up.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info;
use axum::serve::IncomingStream;
use futures::Stream;
use prescale_telemetry::adapter::{HandshakeFailed, Protocol};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::tls;

/// Connections that are open at a time; the next wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// After an error of accepting, such as too many open files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// It showed a certificate of the configured authorities, and its name is one that is allowed.
    pub(crate) certified: bool,
}

/// A port before it is served.
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Tls>,
}

/// How a port speaks TLS.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// Common names of callers; empty = any.
    pub(crate) names: Vec<String>,
    /// Whether callers without a certificate are cut off.
    pub(crate) certified_only: bool,
}

/// Connections that have shaken hands, in the order in which they did.
pub(crate) struct Incoming {
    ready: mpsc::Receiver<Wire>,
}

/// One connection.
pub(crate) struct Wire {
    stream: Crypt,
    peer: Peer,
    _one_of_few: OwnedSemaphorePermit,
}

enum Crypt {
    Plain(TcpStream),
    // Boxed: it is some ten times as large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Port {
    /// Accepts until the token is cancelled. The returned future is the acceptor; it has to be polled beside the server.
    pub(crate) fn open(self, shutdown: CancellationToken) -> (Incoming, impl Future<Output = ()>) {
        let (sender, ready) = mpsc::channel(64);
        let incoming = Incoming { ready };
        (incoming, self.accept(sender, shutdown))
    }

    async fn accept(self, sender: mpsc::Sender<Wire>, shutdown: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tls = self.tls.map(Arc::new);
        let mut handshakes = JoinSet::new();
        loop {
            let next = async {
                let Ok(permit) = room.clone().acquire_owned().await else { return pending().await };
                (permit, self.listener.accept().await)
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(_) = handshakes.join_next() => {}
                (permit, accepted) = next => match accepted {
                    Ok((stream, _)) => {
                        let (tls, sender, protocol) = (tls.clone(), sender.clone(), self.protocol);
                        handshakes.spawn(async move {
                            let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, shake(stream, tls.as_deref())).await;
                            match shaken.unwrap_or_else(|_| Err("it took too long".to_owned())) {
                                Ok((stream, peer)) => {
                                    // Nobody waits for it if the server has stopped.
                                    drop(sender.send(Wire { stream, peer, _one_of_few: permit }).await);
                                }
                                Err(error) => HandshakeFailed { protocol, error: &error }.emit(),
                            }
                        });
                    }
                    Err(error) => {
                        HandshakeFailed { protocol: self.protocol, error: &error.to_string() }.emit();
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                },
            }
        }
    }
}

async fn shake(stream: TcpStream, tls: Option<&Tls>) -> Result<(Crypt, Peer), String> {
    // Answers are small and waited for.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let Some(tls) = tls else { return Ok((Crypt::Plain(stream), Peer { certified: false })) };
    let stream = tls.acceptor.accept(stream).await.map_err(|error| error.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let name = certificate.and_then(tls::common_name);
    let allowed = |name: &String| tls.names.contains(name);
    let certified = certificate.is_some() && (tls.names.is_empty() || name.as_ref().is_some_and(allowed));
    if tls.certified_only && !certified {
        return Err(format!("the name {name:?} is not allowed"));
    }
    Ok((Crypt::Tls(Box::new(stream)), Peer { certified }))
}

impl axum::serve::Listener for Incoming {
    type Io = Wire;
    type Addr = Peer;

    async fn accept(&mut self) -> (Wire, Peer) {
        match self.ready.recv().await {
            Some(wire) => {
                let peer = wire.peer.clone();
                (wire, peer)
            }
            // The acceptor has ended, as the server is about to.
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { certified: false })
    }
}

impl connect_info::Connected<IncomingStream<'_, Incoming>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        stream.remote_addr().clone()
    }
}

impl Stream for Incoming {
    type Item = io::Result<Wire>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|wire| wire.map(Ok))
    }
}

impl Connected for Wire {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Crypt::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Crypt::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Crypt::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Crypt::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Crypt::Plain(stream) => Pin::new(stream).poll_flush(context),
            Crypt::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Crypt::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Crypt::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
