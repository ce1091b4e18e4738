//! The daemon's HTTP server: health, metrics, status, and the embedded registry's read API.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::daemon::status::StatusBoard;
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use crate::registry::embedded::EmbeddedRegistry;

#[derive(Clone)]
struct Shared {
    board: StatusBoard,
    metrics: Metrics,
    registry: Option<Arc<EmbeddedRegistry>>,
}

/// Binds the address and serves in the background.
pub async fn serve(
    listen: SocketAddr,
    board: StatusBoard,
    metrics: Metrics,
    registry: Option<Arc<EmbeddedRegistry>>,
) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|e| {
        Error::definite(Code::Io, format!("cannot listen on `{listen}`: {e}"))
            .hint("another gimbal may be running; set another `listen:` in the config")
    })?;
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status))
        .fallback(registry_api)
        .with_state(Shared { board, metrics, registry });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(error = %error, "http server ended");
        }
    });
    Ok(())
}

/// 200 unless a definite error has stopped the daemon.
async fn healthz(State(shared): State<Shared>) -> Response {
    let status = shared.board.read();
    let code = if status.state == "stopped" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, status.state).into_response()
}

/// 200 while the stream is being read.
async fn readyz(State(shared): State<Shared>) -> Response {
    let status = shared.board.read();
    let code = if status.state == "streaming" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, status.state).into_response()
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    if let Some(age) = shared.board.read().freshness_seconds {
        shared.metrics.freshness(age);
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

async fn status(State(shared): State<Shared>) -> Response {
    Json(shared.board.read()).into_response()
}

async fn registry_api(State(shared): State<Shared>, request: Request) -> Response {
    let Some(registry) = &shared.registry else { return StatusCode::NOT_FOUND.into_response() };
    if request.method() != axum::http::Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let (status, body) = registry.respond(request.uri().path());
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ([(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")], (code, body)).into_response()
}
