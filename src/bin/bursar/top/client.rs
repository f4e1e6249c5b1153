//! Asks a running service for a snapshot.

use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::Address;
use super::view::View;

/// The longest answer that is read.
const LARGEST: usize = 16 << 20;
/// How the scheduler behind an address is now, with so many waits, holders, modules and sections at most, if there is
/// an answer within so long.
pub async fn look(address: &Address, limit: usize, patience: Duration) -> anyhow::Result<View> {
    let text = timeout(patience, get(address, limit)).await;
    let text = text.with_context(|| format!("no answer for {} seconds", patience.as_secs()))??;
    serde_json::from_slice(&text).context("what answers is no inspection page of this version")
}

async fn get(address: &Address, limit: usize) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect((address.host(), address.port)).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with this call.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let request = Request::get(address.json(limit))
        .header(header::HOST, format!("{}:{}", address.host, address.port))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    let said = || String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    ensure!(status.is_success(), "{status}: {}", said());
    Ok(body)
}
