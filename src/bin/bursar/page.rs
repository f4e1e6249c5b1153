//! The inspection page of a run.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use bursar::{Scheduler, inspect};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Shows a scheduler at an address until the result is dropped, and says where.
pub async fn show(scheduler: &Scheduler, address: SocketAddr) -> io::Result<JoinSet<io::Result<()>>> {
    let listener = TcpListener::bind(address).await?;
    eprintln!("inspection page: http://{}/bursar", listener.local_addr()?);
    let page = Router::new().nest("/bursar", inspect::router(scheduler));
    let mut server = JoinSet::new();
    server.spawn(axum::serve(listener, page).into_future());
    Ok(server)
}
