//! What the service answers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::json;
use tickr::prom::prometheus::{self, TextEncoder};
use tickr::{Storage as _, Worker};

use crate::shop::{Ledger, NewOrder, Shop};
use crate::telemetry::Telemetry;

#[derive(Clone)]
struct Service {
    shop: Arc<dyn Shop>,
    worker: Option<Arc<Worker>>,
    registry: prometheus::Registry,
}

pub(crate) fn router(shop: Arc<dyn Shop>, worker: Option<Arc<Worker>>, telemetry: &Telemetry) -> Router {
    let orders = Router::new().route("/orders", post(place)).route("/ledger", get(ledger));
    let orders = match telemetry.service_tracer() {
        Some(tracer) => orders.layer(middleware::from_fn_with_state(tracer, traced)),
        None => orders,
    };
    let probes = Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).route("/readyz", get(readyz));
    orders.merge(probes).with_state(Service { shop, worker, registry: telemetry.registry() })
}

/// What goes wrong here is not the caller's business; it is in the log.
struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        tracing::error!(error = format!("{:#}", self.0), "a request failed");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

async fn place(State(service): State<Service>, Json(order): Json<NewOrder>) -> Result<impl IntoResponse, Failed> {
    let order = service.shop.place(order).await?;
    Ok((StatusCode::CREATED, Json(json!({ "order": order }))))
}

async fn ledger(State(service): State<Service>) -> Result<Json<Ledger>, Failed> {
    Ok(Json(service.shop.ledger().await?))
}

/// For Prometheus. Asks no database.
async fn metrics(State(service): State<Service>) -> Result<impl IntoResponse, Failed> {
    let text = TextEncoder::new().encode_to_string(&service.registry.gather())?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

/// Whether a restart would help: never while only the database is away.
async fn healthz(State(service): State<Service>) -> impl IntoResponse {
    let live = service.worker.is_none_or(|worker| worker.health().live);
    if live { (StatusCode::OK, "live\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the worker ended or hangs\n") }
}

/// Whether orders can be taken and are worked on, and why not.
async fn readyz(State(service): State<Service>) -> impl IntoResponse {
    let database = service.shop.queue().now().await;
    let health = service.worker.map(|worker| worker.health());
    let ready = database.is_ok() && health.is_none_or(|health| health.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let worker = health.map(|health| {
        json!({
            "live": health.live,
            "ready": health.ready,
            "stopping": health.stopping,
            "lease": health.alive,
            "seconds_since_claim": health.last_claim.map(|age| age.as_secs_f64()),
            "seconds_since_heartbeat": health.last_heartbeat.map(|age| age.as_secs_f64()),
            "listening": health.listening,
            "running": health.running,
            "queued": health.queued,
            "unsettled": health.unsettled,
            "refused": health.refused,
            "failures": health.failures,
        })
    });
    (status, Json(json!({ "ready": ready, "database": database.is_ok(), "worker": worker })))
}

/// A span around a request, in the trace of whoever sent it. What it enqueues is a child of it.
async fn traced(State(tracer): State<Arc<SdkTracer>>, request: Request, next: Next) -> Response {
    let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(request.headers()));
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let builder = tracer
        .span_builder(format!("{method} {path}"))
        .with_kind(SpanKind::Server)
        .with_attributes([KeyValue::new("http.request.method", method), KeyValue::new("url.path", path)]);
    let context = caller.with_span(tracer.build_with_context(builder, &caller));
    let response = next.run(request).with_context(context.clone()).await;
    let span = context.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(response.status().as_u16())));
    if response.status().is_server_error() {
        span.set_status(Status::error(""));
    }
    span.end();
    response
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(header::HeaderName::as_str).collect()
    }
}
