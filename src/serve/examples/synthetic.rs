//! Serves the made-up world of `fake`, one minute of it every half second: for looking at the dashboard.
//! `cargo run -p prescale-serve --example synthetic -- 127.0.0.1:8099`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;
use std::time::Duration;

use prescale_serve::{App, ServeError, bind, fake, serve};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    let mut minute = 1440 + 13 * 60;
    let (sender, handle) = fake::handle(minute);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            minute += 1;
            sender.send_replace(Arc::new(fake::view(minute)));
        }
    });
    serve(listener, App::new(handle, CancellationToken::new())).await
}
