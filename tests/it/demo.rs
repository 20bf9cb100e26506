//! The demo as a newcomer runs it: its dashboard in a real Chromium while it lives, its score card at the end. The
//! screenshot stays in `target/tmp/dashboard-demo.png`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::browser::{DESKTOP, devtools::Page, inspect};
use crate::kit;

/// Two simulated days take a minute of one core; an unoptimised crate or a loaded machine a few more.
const LIMIT: Duration = Duration::from_secs(900);

#[test]
fn heavy_the_demo_shows_itself_live_and_beats_hpa_on_violations_at_no_more_cost() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", kit::free_port());
    let arguments = ["demo", "--for", "1s", "--json", "--listen", listen.as_str()];
    let mut demo = kit::Running::start(&arguments, &directory.path().join("log"));
    if let Some(mut page) = Page::start()? {
        kit::wait_for("the dashboard's address", Duration::from_secs(60), || {
            demo.printed().contains(&format!("dashboard: http://{listen}/")).then_some(())
        });
        look(&mut page, &listen)?;
    }
    ensure!(demo.finish(LIMIT).success(), "{}", demo.printed());
    let printed = demo.printed();
    let card = printed.lines().rev().find(|line| line.starts_with('{')).context("there is no score card")?;
    let card: Value = serde_json::from_str(card)?;
    let figures = |system: &str| -> Result<[f64; 3]> {
        let places = ["/violations/time_pct", "/violations/requests_pct", "/cost_usd"];
        let mut found = [0.0; 3];
        for (place, figure) in places.into_iter().zip(&mut found) {
            let value = card.pointer(&format!("/systems/{system}{place}"));
            *figure = value.and_then(Value::as_f64).with_context(|| format!("{system} has no {place}: {card}"))?;
        }
        Ok(found)
    };
    let (ours, hpa) = (figures("prescale")?, figures("hpa")?);
    ensure!(ours[0] < hpa[0] && ours[1] < hpa[1] && ours[2] <= hpa[2], "{ours:?} against {hpa:?}");
    // Whoever violates nothing has seen the load before.
    ensure!(ours[0] > 0.0 && ours[1] > 0.0, "{ours:?} is too good to be true");
    let forecasts = &card["forecast"]["checkout"];
    let (all, mixed) = (forecasts["forecasts"].as_f64(), forecasts["models"]["ensemble"].as_f64());
    ensure!(mixed.zip(all).is_some_and(|(mixed, all)| mixed > 0.9 * all), "{forecasts}");
    Ok(())
}

fn look(page: &mut Page, listen: &str) -> Result<()> {
    page.open(&format!("http://{listen}/#search"), DESKTOP, "light")?;
    page.until("document.body.dataset.link === 'live' && document.querySelectorAll('.card').length === 3")?;
    page.until("document.querySelector('#plot-load .band-wide') !== null")?;
    page.until("/lstm/.test(document.querySelector('#service').textContent)")?;
    page.until("/units/.test(document.querySelector('#decisions').textContent)")?;
    let now = page.value("Date.parse(model.status.now)")?;
    page.until(&format!("Date.parse(model.status.now) > {now}"))?;
    let png = page.screenshot()?;
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard-demo.png"), &png)?;
    let (width, values) = inspect(&png)?;
    ensure!(width == DESKTOP.0 && values > 100, "a screenshot {width} wide with {values} byte values");
    ensure!(page.faults.is_empty(), "the page logged {:?}", page.faults);
    Ok(())
}
