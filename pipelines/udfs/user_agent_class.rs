//! `user_agent_class(user_agent)`: who sent a request, by its User-Agent: `browser`, `mobile`, `bot`, `tool` or `unknown`.
//!
//! The first rule that fits decides: bots and tools call themselves browsers too.

use arroyo_udf_plugin::udf;

/// Crawlers, previews and monitors, by a part of the name.
const BOTS: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "slurp",
    "facebookexternalhit",
    "mediapartners",
    "bingpreview",
    "google-read-aloud",
    "headlesschrome",
    "phantomjs",
    "lighthouse",
    "pingdom",
    "uptime",
    "statuscake",
    "archiver",
    "scrapy",
    "feedfetcher",
    "whatsapp/",
    "embedly",
];
/// Names with a part of a bot's name in it.
const NO_BOTS: &[&str] = &["cubot"];
/// Programs and libraries, and what checks for health, by how the name begins.
const TOOLS: &[&str] = &[
    "curl/",
    "wget/",
    "python",
    "aiohttp",
    "httpx",
    "go-http-client",
    "go-resty",
    "java/",
    "java-http-client",
    "okhttp",
    "apache-httpclient",
    "jakarta",
    "libwww-perl",
    "lwp",
    "ruby",
    "faraday",
    "php",
    "guzzlehttp",
    "postmanruntime",
    "insomnia",
    "httpie",
    "axios",
    "node",
    "undici",
    "got",
    "reqwest",
    "hyper",
    "rust",
    "dart",
    "grpc",
    "k6",
    "vegeta",
    "apachebench",
    "wrk",
    "hey/",
    "locust",
    "jmeter",
    "kube-probe",
    "prometheus",
    "elb-healthchecker",
    "googlehc",
    "envoy",
    "haproxy",
    "consul",
    "datadog",
    "grafana",
    "aws-sdk",
    "aws-cli",
    "boto",
    "terraform",
    "git/",
    "docker/",
    "containerd/",
    "powershell",
];
const MOBILES: &[&str] =
    &["mobile", "android", "iphone", "ipad", "ipod", "windows phone", "opera mini", "blackberry", "webos", "kaios"];
/// Applications on phones that name their network library instead of a browser.
const APPLICATIONS: &[&str] = &["dalvik/", "cfnetwork"];
/// Engines and browsers that a real browser names.
const ENGINES: &[&str] = &["gecko", "applewebkit", "khtml", "trident", "msie", "presto", "netscape", "opera"];
const TEXT_BROWSERS: &[&str] = &["lynx/", "links", "elinks", "w3m/"];

#[udf]
fn user_agent_class(user_agent: Option<&str>) -> String {
    user_agent.map_or("unknown", class).to_string()
}

fn class(user_agent: &str) -> &'static str {
    let name = user_agent.trim().to_ascii_lowercase();
    let holds = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let begins = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
    if name.is_empty() || name == "-" {
        "unknown"
    } else if holds(BOTS) && !holds(NO_BOTS) {
        "bot"
    } else if begins(TOOLS) {
        "tool"
    } else if holds(APPLICATIONS) {
        "mobile"
    } else if begins(&["mozilla/", "opera/"]) && holds(MOBILES) {
        "mobile"
    } else if begins(&["mozilla/", "opera/"]) && holds(ENGINES) || begins(TEXT_BROWSERS) {
        "browser"
    } else {
        "unknown"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let chrome = "(KHTML, like Gecko) Chrome/126.0.0.0";
        for (user_agent, expected) in [
            (format!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 {chrome} Safari/537.36"), "browser"),
            ("Mozilla/5.0 (Windows NT 10.0; rv:127.0) Gecko/20100101 Firefox/127.0".to_owned(), "browser"),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)".to_owned(), "browser"),
            ("Opera/9.80 (Windows NT 6.1) Presto/2.12 Version/12.16".to_owned(), "browser"),
            ("Lynx/2.8.9rel.1".to_owned(), "browser"),
            (format!("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 {chrome} Mobile Safari/537.36"), "mobile"),
            (format!("Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 {chrome}"), "mobile"),
            ("Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15".to_owned(), "mobile"),
            ("Shop/3.2 CFNetwork/1410.0.3 Darwin/22.6.0".to_owned(), "mobile"),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)".to_owned(), "bot"),
            (format!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 {chrome} HeadlessChrome/126"), "bot"),
            ("facebookexternalhit/1.1".to_owned(), "bot"),
            ("curl/8.5.0".to_owned(), "tool"),
            ("python-requests/2.32.0".to_owned(), "tool"),
            ("kube-probe/1.30".to_owned(), "tool"),
            ("ELB-HealthChecker/2.0".to_owned(), "tool"),
            ("Mozilla/5.0".to_owned(), "unknown"),
            ("something of ours".to_owned(), "unknown"),
            (" - ".to_owned(), "unknown"),
            (String::new(), "unknown"),
        ] {
            assert_eq!(user_agent_class(Some(&user_agent)), expected, "{user_agent}");
        }
        assert_eq!(user_agent_class(None), "unknown");
    }
}
