//! A real Chromium, driven over its DevTools protocol: open, look, type, take a picture. Rule: every wait is for a
//! condition and ends; the browser ends with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a condition may take to come true on a loaded machine.
const WITHIN: Duration = Duration::from_secs(60);

/// One page in a browser of its own.
pub(crate) struct Page {
    browser: Child,
    socket: BufReader<TcpStream>,
    session: Option<String>,
    calls: u64,
    /// Exceptions and errors that the page has logged, such as breaches of its security policy.
    pub(crate) faults: Vec<String>,
    _profile: TempDir,
}

impl Page {
    /// Starts the browser that `PRESCALE_TEST_CHROMIUM` names on an empty page; `None` where it names none.
    pub(crate) fn start() -> Result<Option<Self>> {
        let Some(program) = crate::kit::chromium() else { return Ok(None) };
        let profile = tempfile::tempdir()?;
        let browser = Command::new(&program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        // From here on, dropping the page ends the browser.
        let begun = Instant::now();
        let file = profile.path().join("DevToolsActivePort");
        let mut guard = Ending(Some(browser));
        let (port, path) = loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some((port, path)) = text.trim().split_once('\n') {
                break (port.parse::<u16>()?, path.to_owned());
            }
            ensure!(begun.elapsed() < WITHIN, "chromium opened no DevTools port in {} s", WITHIN.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        };
        let socket = upgrade(port, &path)?;
        let browser = guard.0.take().context("the browser is started once")?;
        let mut page = Self { browser, socket, session: None, calls: 0, faults: Vec::new(), _profile: profile };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = page.call("Target.attachToTarget", attach)?;
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(Some(page))
    }

    /// Opens `url` in a window of `size`; `scheme` is `light` or `dark`.
    pub(crate) fn open(&mut self, url: &str, size: (u32, u32), scheme: &str) -> Result<()> {
        let window = json!({ "width": size.0, "height": size.1, "deviceScaleFactor": 1, "mobile": size.0 < 600 });
        self.call("Emulation.setDeviceMetricsOverride", window)?;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features)?;
        // A change of the part after `#` alone would not load the page again.
        self.call("Page.navigate", json!({ "url": "about:blank" }))?;
        self.call("Page.navigate", json!({ "url": url }))?;
        Ok(())
    }

    /// The value of a JavaScript expression.
    pub(crate) fn value(&mut self, expression: &str) -> Result<Value> {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))?;
        ensure!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) fn until(&mut self, expression: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            // While a page loads, what the expression names may not be there yet.
            let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))?;
            if answer["result"]["value"] == true {
                return Ok(());
            }
            ensure!(begun.elapsed() < WITHIN, "not true within {} s: {expression}: {answer}", WITHIN.as_secs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses and releases a key such as `ArrowRight`.
    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }))?;
        }
        Ok(())
    }

    /// Moves the pointer to the middle of the element that `selector` names.
    pub(crate) fn point_at(&mut self, selector: &str) -> Result<()> {
        let middle = format!(
            "(() => {{ const area = document.querySelector({selector:?}).getBoundingClientRect(); \
             return {{ x: area.left + area.width / 2, y: area.top + area.height / 2 }}; }})()"
        );
        let place = self.value(&middle)?;
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": place["x"], "y": place["y"] }))?;
        Ok(())
    }

    /// A PNG of the window.
    pub(crate) fn screenshot(&mut self) -> Result<Vec<u8>> {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" }))?;
        decode_base64(answer["data"].as_str().context("a screenshot has data")?)
    }

    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        send(self.socket.get_mut(), &message.to_string())?;
        loop {
            let answer: Value = serde_json::from_str(&receive(&mut self.socket)?)?;
            if answer["id"] == self.calls {
                ensure!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
            let error = answer["method"] == "Log.entryAdded" && answer["params"]["entry"]["level"] == "error";
            if error || answer["method"] == "Runtime.exceptionThrown" {
                self.faults.push(answer["params"].to_string());
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        end(&mut self.browser);
    }
}

/// Ends the browser if the page is never made.
struct Ending(Option<Child>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

fn end(browser: &mut Child) {
    // Both fail only when it has ended already.
    drop(browser.kill());
    drop(browser.wait());
}

/// Opens a WebSocket on this machine (RFC 6455).
fn upgrade(port: u16, path: &str) -> Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(WITHIN))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: cHJlc2NhbGUgYnJvd3NlciE=\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut socket = BufReader::new(stream);
    let mut line = String::new();
    socket.read_line(&mut line)?;
    ensure!(line.contains("101"), "DevTools refused the WebSocket: {line}");
    while line != "\r\n" {
        line.clear();
        socket.read_line(&mut line)?;
    }
    Ok(socket)
}

/// Sends one text message; its mask is zero, which changes nothing.
fn send(stream: &mut TcpStream, text: &str) -> Result<()> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length @ ..126) => frame.push(0x80 | length as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    Ok(stream.write_all(&frame)?)
}

/// Receives one text message, which may come in several frames.
fn receive(socket: &mut BufReader<TcpStream>) -> Result<String> {
    let mut text = Vec::new();
    loop {
        let mut head = [0; 2];
        socket.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                socket.read_exact(&mut bytes)?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                socket.read_exact(&mut bytes)?;
                u64::from_be_bytes(bytes)
            }
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        socket.read_exact(&mut payload)?;
        match head[0] & 0x0f {
            0 | 1 => text.extend(payload),
            8 => bail!("chromium closed the DevTools connection"),
            _ => continue,
        }
        if head[0] & 0x80 != 0 {
            return Ok(String::from_utf8(text)?);
        }
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("`{}` is not base64", char::from(letter)),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(bytes)
}
