//! The daemon's HTTP server: health, metrics, status, and the embedded registry's read API.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::daemon::api::{Api, RepairRequest};
use crate::daemon::status::{ErrorStatus, StatusBoard};
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use crate::registry::embedded::EmbeddedRegistry;

#[derive(Clone)]
struct Shared {
    board: StatusBoard,
    metrics: Metrics,
    registry: Option<Arc<EmbeddedRegistry>>,
    api: Api,
}

/// Binds the address and serves in the background.
pub async fn serve(
    listen: SocketAddr,
    board: StatusBoard,
    metrics: Metrics,
    registry: Option<Arc<EmbeddedRegistry>>,
    api: Api,
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
        .route("/api/v1/repair", post(repair))
        .fallback(registry_api)
        .with_state(Shared { board, metrics, registry, api });
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

/// Queues a repair; answers once it is in the checkpoint.
async fn repair(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Err(error) = shared.api.admit(text.and_then(|text| text.strip_prefix("Bearer "))) {
        return refusal(&error);
    }
    let request: RepairRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        // Not the parser's own words: they may show a key.
        Err(error) => {
            let place = format!("line {} column {}", error.line(), error.column());
            let what = format!("the request's body is not a repair request: wrong at {place}");
            return refusal(&Error::definite(Code::RepairRefused, what).hint("see docs/operations.md, \"Repair\""));
        }
    };
    let api = shared.api.clone();
    match tokio::task::spawn_blocking(move || api.repair(request)).await {
        Ok(Ok(accepted)) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Ok(Err(error)) => refusal(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refusal(error: &Error) -> Response {
    let status = match error.code() {
        Code::ApiDenied => StatusCode::UNAUTHORIZED,
        Code::DaemonBusy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(ErrorStatus::from(error))).into_response()
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
