//! The dashboard in a real Chromium, against a made-up controller that moves on while the page is open. Skipped, by
//! name, where `PRESCALE_TEST_CHROMIUM` names no browser. Screenshots stay in `target/tmp/dashboard-*.png`.

pub(crate) mod devtools;

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devtools::Page;
use flate2::read::ZlibDecoder;
use prescale_serve::{App, bind, fake, serve};
use tokio_util::sync::CancellationToken;

/// Tuesday, 13:00 UTC.
const MINUTE: i64 = 1440 + 13 * 60;
pub(crate) const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

/// A server of the made-up world, which moves on by a minute every quarter of a second; dropped, it stops at once.
struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn start(address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(bind(address))?;
        let address = listener.local_addr()?;
        let (world, handle) = fake::handle(MINUTE);
        let shutdown = CancellationToken::new();
        runtime.spawn(serve(listener, App::new(handle, shutdown.clone())));
        let stop = shutdown.clone();
        runtime.spawn(async move {
            for minute in MINUTE + 1.. {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(250)) => {}
                    () = stop.cancelled() => return,
                }
                world.send_replace(Arc::new(fake::view(minute)));
            }
        });
        Ok(Self { address, shutdown, _runtime: runtime })
    }

    fn page(&self, service: &str) -> String {
        format!("http://{}/#{service}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// How many points the path has that `selector` names.
fn points(page: &mut Page, selector: &str) -> Result<usize> {
    let path = page.value(&format!("document.querySelector({selector:?}).getAttribute('d')"))?;
    Ok(path.as_str().with_context(|| format!("no {selector}"))?.matches(['M', 'L', 'H']).count())
}

#[test]
fn the_dashboard_draws_load_fan_capacity_and_reasons_live() -> Result<()> {
    let Some(mut page) = Page::start()? else { return Ok(()) };
    let served = Served::start("127.0.0.1:0")?;
    page.open(&served.page("checkout"), DESKTOP, "light")?;
    page.until("document.body.dataset.link === 'live' && document.querySelectorAll('.card').length === 4")?;
    let names = page.value("[...document.querySelectorAll('.card .name')].map((name) => name.textContent).join()")?;
    ensure!(names == "catalog,checkout,media/resize,search", "services are {names}");
    for (selector, least) in [
        ("#plot-load .band-wide", 120),
        ("#plot-load .band-half", 120),
        ("#plot-load .median", 60),
        ("#plot-load .load", 175),
        ("#plot-capacity .demand", 175),
        ("#plot-capacity .ready", 3),
        ("#plot-capacity .desired", 3),
    ] {
        let found = points(&mut page, selector)?;
        ensure!(found >= least, "{selector} has {found} points, expected {least}");
    }
    page.until("/0.95-quantile \\d+ from \\d\\d:\\d\\d on/.test(document.querySelector('#decisions').textContent)")?;
    page.until("document.querySelector('#models').textContent.includes('Page–Hinkley')")?;
    page.until("document.querySelector('#events').textContent.includes('autumn-sale')")?;
    // It moves on by itself.
    page.until(&format!(
        "Date.parse(model.status.now) > {}",
        (fake::view(MINUTE).now + prescale_domain::Span::from_minutes(3)).millis()
    ))?;
    ensure!(page.faults.is_empty(), "the page logged {:?}", page.faults);
    Ok(())
}

#[test]
fn services_values_and_inputs_are_reached_by_keyboard_and_pointer() -> Result<()> {
    let Some(mut page) = Page::start()? else { return Ok(()) };
    let served = Served::start("127.0.0.1:0")?;
    page.open(&served.page("checkout"), DESKTOP, "light")?;
    page.until("document.querySelector('[role=tab][aria-selected=true] .name')?.textContent === 'checkout'")?;
    page.point_at("#plot-load svg")?;
    page.until("!document.querySelector('#tip').hidden && /load/.test(document.querySelector('#tip').textContent)")?;
    page.value("document.querySelector('#decisions summary').click()")?;
    // Newer decisions come in above the one that was opened.
    page.until("/provisioning 3m/.test(document.querySelector('#decisions details[open] .inputs')?.textContent)")?;
    page.value("document.querySelector('[role=tab][aria-selected=true]').focus()")?;
    page.press("ArrowRight")?;
    page.until("document.querySelector('#title').textContent === 'media/resize'")?;
    page.until("document.activeElement.querySelector('.name').textContent === 'media/resize'")?;
    page.press("Home")?;
    page.until("document.querySelector('#title').textContent === 'catalog'")?;
    ensure!(page.faults.is_empty(), "the page logged {:?}", page.faults);
    Ok(())
}

#[test]
fn states_without_data_are_said() -> Result<()> {
    let Some(mut page) = Page::start()? else { return Ok(()) };
    let served = Served::start("127.0.0.1:0")?;
    for (service, expected) in [
        ("search", "Waiting for the first requests_per_second"),
        ("media%2Fresize", "no data since 12m"),
        ("catalog", "no forecast: cold-start"),
        ("catalog", "autoscaling:SetDesiredCapacity is not allowed"),
        ("catalog", "LSTM in 430m at the earliest"),
        ("checkout", "lstm 55 %"),
        ("checkout", "Daily cycle"),
    ] {
        page.open(&served.page(service), DESKTOP, "light")?;
        page.until(&format!("document.querySelector('#service')?.textContent.includes({expected:?})"))?;
    }
    page.until("document.querySelector('#notices').textContent.includes('capacity is held')")?;
    Ok(())
}

#[test]
fn a_lost_connection_is_visible_and_comes_back() -> Result<()> {
    let Some(mut page) = Page::start()? else { return Ok(()) };
    let served = Served::start("127.0.0.1:0")?;
    let address = served.address.to_string();
    page.open(&served.page("checkout"), DESKTOP, "light")?;
    page.until("document.body.dataset.link === 'live'")?;
    drop(served);
    page.until("document.querySelector('#link').textContent.startsWith('Disconnected')")?;
    page.until("document.querySelector('#notices').textContent.includes('No connection to Prescale since')")?;
    let _served = Served::start(&address)?;
    page.until("document.querySelector('#link').textContent === 'Live'")?;
    page.until("!document.querySelector('#notices').textContent.includes('No connection')")?;
    Ok(())
}

#[test]
fn it_is_drawn_light_and_dark_and_on_a_phone() -> Result<()> {
    let Some(mut page) = Page::start()? else { return Ok(()) };
    let served = Served::start("127.0.0.1:0")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut grounds = Vec::new();
    for (name, size, scheme) in [("light", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")] {
        page.open(&served.page("checkout"), size, scheme)?;
        page.until(
            "document.body.dataset.link === 'live' && document.querySelector('#plot-load .band-wide') !== null",
        )?;
        let wide = page.value("document.documentElement.scrollWidth")?;
        ensure!(wide == size.0, "{name}: the page is {wide} pixels wide, the window {}", size.0);
        grounds.push(page.value("getComputedStyle(document.body).backgroundColor")?);
        let png = page.screenshot()?;
        std::fs::write(folder.join(format!("dashboard-{name}.png")), &png)?;
        let (width, values) = inspect(&png).with_context(|| format!("read the {name} screenshot"))?;
        ensure!(width == size.0, "{name}: the screenshot is {width} pixels wide");
        ensure!(values > 100, "{name}: {values} byte values only: it is blank");
    }
    ensure!(grounds[0] != grounds[1] && grounds[0] == grounds[2], "grounds are {grounds:?}");
    Ok(())
}

/// Width of a PNG, and how many byte values its filtered pixels have: a few for a blank page.
pub(crate) fn inspect(png: &[u8]) -> Result<(u32, usize)> {
    ensure!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "not a PNG");
    let (mut at, mut pixels, mut width) = (8, Vec::new(), 0);
    while at + 12 <= png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into()?) as usize;
        let data = png.get(at + 8..at + 8 + length).context("a chunk is cut short")?;
        match &png[at + 4..at + 8] {
            b"IHDR" => width = u32::from_be_bytes(data[..4].try_into()?),
            b"IDAT" => pixels.extend_from_slice(data),
            _ => {}
        }
        at += length + 12;
    }
    let mut raw = Vec::new();
    ZlibDecoder::new(&pixels[..]).read_to_end(&mut raw)?;
    let mut seen = [false; 256];
    raw.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    Ok((width, seen.iter().filter(|there| **there).count()))
}
