//! The body of an answer, counted on its way. Rule: nothing of it is changed or held back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::Line;

pin_project! {
    /// A body that completes its request's log line with its last byte. Dropped before that, it says that the caller was gone.
    #[derive(Debug)]
    pub struct LoggedBody<B> {
        #[pin]
        inner: B,
        line: Option<Line>,
        status: u16,
    }
}

impl<B: Body> LoggedBody<B> {
    pub(crate) fn new(inner: B, mut line: Option<Line>, status: u16) -> Self {
        // Nobody asks a body without bytes for any.
        if inner.is_end_stream() {
            end(&mut line, status);
        }
        Self { inner, line, status }
    }
}

impl<B: Body> Body for LoggedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(context));
        if let (Some(Ok(frame)), Some(line)) = (&frame, this.line.as_mut()) {
            line.count(frame.data_ref().map_or(0, |data| data.remaining() as u64));
        }
        // Who knows that this was the last frame does not ask for another.
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            end(this.line, *this.status);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn end(line: &mut Option<Line>, status: u16) {
    if let Some(line) = line.take() {
        line.end(Some(status));
    }
}
