//! Small HTTP things that the parts share: a request on a connection of its own, and addresses that are loopback only,
//! so that a slip of the keyboard hurts nobody else.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

/// The host that clients name; no upstream looks at it.
pub(crate) const HOST: &str = "storm.test";

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

/// `http://127.0.0.1:8080/x` as an address and a path.
pub(crate) fn parse_url(url: &str) -> Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} does not begin with http://"))?;
    let (host, path) = match rest.find('/') {
        Some(at) => (&rest[..at], rest[at..].to_owned()),
        None => (rest, "/".to_owned()),
    };
    let address: SocketAddr = host.parse().with_context(|| format!("{host} is not an address and a port"))?;
    ensure!(address.ip().is_loopback(), "storm talks to loopback addresses only, not to {address}");
    Ok((address, path))
}

/// One request on a fresh connection, for control and for probes.
pub(crate) async fn once(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: String,
    limit: Duration,
) -> Result<Reply> {
    let exchange = async move {
        let socket = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::builder().method(method).uri(path).header("host", address.to_string());
        let (head, body) = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        driver.abort();
        anyhow::Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    };
    let ended = tokio::time::timeout(limit, exchange).await;
    ended.with_context(|| format!("{method} http://{address}{path} was not answered within {limit:?}"))?
}

#[cfg(test)]
mod tests {
    use super::parse_url;

    #[test]
    fn only_loopback_addresses_are_talked_to() {
        let (address, path) = parse_url("http://127.0.0.1:81/a/b?c").unwrap();
        assert_eq!((address.port(), path.as_str()), (81, "/a/b?c"));
        assert_eq!(parse_url("http://127.0.0.1:81").unwrap().1, "/");
        for wrong in ["http://192.0.2.1:80/", "https://127.0.0.1:80/", "http://127.0.0.1/", "127.0.0.1:80"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
