//! Who may change things. Rule: a handler that changes something takes a [`Writer`], and who is none is told why.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::App;
use crate::problem::Problem;

/// Who may change things through the API, which asks nobody for a name yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Writers {
    /// Programs on this machine.
    #[default]
    Local,
    /// Whoever reaches the server, as through a proxy that asks them who they are.
    Anyone,
}

/// A caller that may change things.
pub(crate) struct Writer {
    /// Where it is; `None` = nobody knows.
    pub(crate) peer: Option<IpAddr>,
}

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
        let refused = another_origin(&parts.headers).or_else(|| match app.writers {
            Writers::Local => not_local(&parts.headers, peer),
            Writers::Anyone => None,
        });
        match refused {
            Some(reason) => Err(Problem::not_permitted(reason)),
            None => Ok(Self { peer }),
        }
    }
}

/// Why a browser that shows a page from elsewhere is refused: it sends what the page wants, with the rights of who looks at
/// it. Programs send none of these headers.
fn another_origin(headers: &HeaderMap) -> Option<String> {
    match (text(headers, "sec-fetch-site"), text(headers, "origin")) {
        (Some("same-origin" | "none"), _) => None,
        (Some(site), _) => Some(format!("a page of another origin asks (Sec-Fetch-Site: {site})")),
        (None, Some(origin)) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            (authority.is_none() || authority != text(headers, "host"))
                .then(|| format!("a page of another origin, `{origin}`, asks"))
        }
        (None, None) => None,
    }
}

/// Why a caller does not count as a program on this machine.
fn not_local(headers: &HeaderMap, peer: Option<IpAddr>) -> Option<String> {
    const HINT: &str = "call 127.0.0.1 from this machine, or set serve.writers = \"anyone\" behind a proxy that asks callers who they are";
    let reason = match peer {
        Some(peer) if peer.is_loopback() => None,
        Some(peer) => Some(format!("{peer} is another machine")),
        None => Some("nobody knows where the caller is".to_owned()),
    };
    let forwarded = || {
        let by_proxy = ["forwarded", "x-forwarded-for"].into_iter().any(|name| headers.contains_key(name));
        by_proxy.then(|| "a proxy forwards what somebody else asks".to_owned())
    };
    // A name may be made to lead here by whoever it belongs to; a page that came from there would be of the same origin.
    let named = || {
        let host = text(headers, "host").filter(|host| !is_local(host))?;
        Some(format!("host `{host}` is neither localhost nor an address of it"))
    };
    reason.or_else(forwarded).or_else(named).map(|reason| format!("{reason}; {HINT}"))
}

/// Whether `host`, with or without a port, can only be this machine.
fn is_local(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
