//! KEDA's external scaler. Rule: what was pushed last is what is told when asked; without a fresh answer an error, upon which
//! KEDA falls back to what its ScaledObject says.
//!
//! What the client of KEDA 2.21 does with it: it takes a float where that is above 0 and the integer otherwise, a value that is
//! negative or not finite as 0; it asks for `IsActive` after each `GetMetrics`, and an error of either fails the metric. All
//! metadata of a trigger arrives, so that keys of KEDA's own are passed over here.

mod question;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use prescale_domain::{Span, Timestamp};
use prescale_telemetry::adapter::{Asked, FollowerCame, FollowerLeft, Protocol};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::proto::externalscaler::external_scaler_server::ExternalScaler;
use crate::proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef,
};
use crate::{Absent, Dated, Desk};
use question::Question;

/// A waiting stream looks again whether its answer became too old after this long, at least: the clock of answers may be
/// another one than that of the machine.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The service.
pub(crate) struct Scaler {
    desk: Desk,
    shutdown: CancellationToken,
}

type Answering<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Scaler {
    pub(crate) fn new(desk: Desk, shutdown: CancellationToken) -> Self {
        Self { desk, shutdown }
    }

    /// The present answer at once, and each that differs from the one before; ends with an error when there is none any more.
    fn follow<T>(&self, question: Question, answer: fn(&Desk, &Question) -> Result<Dated<T>, Status>) -> Answering<T>
    where
        T: PartialEq + Clone + Send + Sync + 'static,
    {
        let following = Following {
            changes: self.desk.changes(),
            desk: self.desk.clone(),
            question,
            answer,
            sent: None,
            ended: false,
            _counted: Counted::new(),
        };
        let answers = stream::unfold(following, Following::next);
        answers.take_until(self.shutdown.clone().cancelled_owned()).boxed()
    }
}

/// The state of one stream.
struct Following<T> {
    desk: Desk,
    question: Question,
    answer: fn(&Desk, &Question) -> Result<Dated<T>, Status>,
    changes: watch::Receiver<u64>,
    sent: Option<T>,
    ended: bool,
    _counted: Counted,
}

impl<T: PartialEq + Clone> Following<T> {
    async fn next(mut self) -> Option<(Result<T, Status>, Self)> {
        loop {
            if self.ended {
                return None;
            }
            // What changes from here on wakes it.
            self.changes.mark_unchanged();
            let Dated { value, at } = match (self.answer)(&self.desk, &self.question) {
                Ok(answer) => answer,
                Err(status) => {
                    self.ended = true;
                    return Some((Err(status), self));
                }
            };
            if self.sent.as_ref() != Some(&value) {
                self.sent = Some(value.clone());
                return Some((Ok(value), self));
            }
            self.wait(at).await;
        }
    }

    /// Until something changes, or the answer of this date may be too old.
    async fn wait(&mut self, at: Timestamp) {
        let fresh_for = (self.desk.fresh_for(at) + Span::from_millis(1)).to_std().max(LOOK_AGAIN_AFTER);
        tokio::select! {
            changed = self.changes.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep(fresh_for) => {}
        }
    }
}

/// Counts a stream for as long as it is held.
struct Counted;

impl Counted {
    fn new() -> Self {
        FollowerCame.emit();
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        FollowerLeft.emit();
    }
}

fn specs(desk: &Desk, question: &Question) -> Result<Dated<GetMetricSpecResponse>, Status> {
    let Dated { value, at } = question.spec(desk).map_err(status)?;
    Ok(Dated { value: GetMetricSpecResponse { metric_specs: vec![value] }, at })
}

fn active(desk: &Desk, question: &Question) -> Result<Dated<IsActiveResponse>, Status> {
    let Dated { value, at } = question.active(desk).map_err(status)?;
    Ok(Dated { value: IsActiveResponse { result: value }, at })
}

fn status(absent: Absent) -> Status {
    match absent {
        Absent::Service { .. } => Status::not_found(absent.to_string()),
        Absent::Value { .. } | Absent::Stale { .. } => Status::unavailable(absent.to_string()),
    }
}

/// Counts the answer.
fn told<T>(call: &'static str, answer: Result<T, Status>) -> Result<Response<T>, Status> {
    let result = match &answer {
        Ok(_) => "ok",
        Err(status) => match status.code() {
            Code::InvalidArgument => "invalid",
            Code::NotFound => "not-found",
            _ => "unavailable",
        },
    };
    Asked { protocol: Protocol::Keda, call, result }.emit();
    answer.map(Response::new)
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Answering<IsActiveResponse>;
    type StreamMetricSpecStream = Answering<GetMetricSpecResponse>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let question = Question::of(request.get_ref());
        told("IsActive", question.and_then(|question| Ok(active(&self.desk, &question)?.value)))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let question = Question::of(request.get_ref());
        told("StreamIsActive", question.map(|question| self.follow(question, active)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let question = Question::of(request.get_ref());
        told("GetMetricSpec", question.and_then(|question| Ok(specs(&self.desk, &question)?.value)))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let answer = || {
            let question = Question::of(&scaled_object_ref.unwrap_or_default())?;
            // Asked for by its name, or by an older client without one.
            if !metric_name.is_empty() && metric_name != question.metric_name() {
                let expected = question.metric_name();
                return Err(Status::not_found(format!(
                    "metric `{metric_name}` is not the `{expected}` of this trigger"
                )));
            }
            let value = question.value(&self.desk).map_err(status)?.value;
            Ok(GetMetricsResponse { metric_values: vec![value] })
        };
        told("GetMetrics", answer())
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let question = Question::of(request.get_ref());
        told("StreamMetricSpec", question.map(|question| self.follow(question, specs)))
    }
}
