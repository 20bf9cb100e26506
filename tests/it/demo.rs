//! The demo as a newcomer runs it: its dashboard in a real Chromium while it lives, its score card at the end. The
//! screenshot stays in `target/tmp/dashboard-demo.png`.

use std::io::{Read, Write};
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

#[test]
fn heavy_the_demo_scales_groups_of_an_account_that_others_can_look_at() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let address = format!("127.0.0.1:{}", kit::free_port());
    let arguments = ["demo", "--aws", "--for", "1s", "--headless", "--json", "--aws-listen", address.as_str()];
    let mut demo = kit::Running::start(&arguments, &directory.path().join("log"));
    let seen = kit::wait_for("the account", Duration::from_secs(60), || describe_groups(&address).ok());
    for group in ["checkout", "search", "catalog"] {
        ensure!(seen.contains(&format!("<AutoScalingGroupName>{group}</AutoScalingGroupName>")), "{seen}");
    }
    ensure!(demo.finish(LIMIT).success(), "{}", demo.printed());
    let printed = demo.printed();
    let number = |after: &str, before: &str| -> Result<u64> {
        let rest = printed.split(after).nth(1).with_context(|| format!("no `{after}`: {printed}"))?;
        let text = rest.split(before).next().unwrap_or_default();
        text.trim().rsplit(' ').next().unwrap_or_default().parse().with_context(|| format!("`{text}`: {printed}"))
    };
    // One look a minute for all three of two days, and a change now and then.
    let looks = number("AWS account: ", " DescribeAutoScalingGroups")?;
    let changes = number("AWS account: ", " SetDesiredCapacity")?;
    ensure!((2800..4500).contains(&looks) && (100..4000).contains(&changes), "{printed}");
    // Capacity rebalancing replaces at the notice, so that none is lost.
    let (launched, noticed) = (number("instances: ", " launched")?, number("ended, ", " of those")?);
    ensure!(launched > 100 && noticed > 5 && printed.contains(" 0 were lost by it, 0 launches refused"), "{printed}");
    let card = printed.lines().rev().find(|line| line.starts_with('{')).context("there is no score card")?;
    let card: Value = serde_json::from_str(card)?;
    let short = |system: &str| card.pointer(&format!("/systems/{system}/violations/time_pct")).and_then(Value::as_f64);
    let (ours, hpa) = short("prescale").zip(short("hpa")).context("no violations")?;
    ensure!(ours < hpa, "{ours} % of the time short, HPA {hpa} %");
    Ok(())
}

/// As somebody else asks.
fn describe_groups(address: &str) -> Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    let body = "Action=DescribeAutoScalingGroups&Version=2011-01-01";
    let head =
        "POST / HTTP/1.1\r\nhost: aws\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let credential = "authorization: AWS4-HMAC-SHA256 Credential=A/20260101/eu-west-1/autoscaling/aws4_request\r\n";
    write!(stream, "{head}{credential}content-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}
