//! The report as text, as JSON and as a page whose numbers lead back to the JSON.

use serde_json::json;

use super::data::page_data;
use super::*;

const NASTY: &str = "</script><b onmouseover=\"x\">'&.\\\u{2028}";

/// Three systems and two services, one of which has a name that would like to be markup.
pub(crate) fn sample() -> BacktestReport {
    let system = |time_pct: f64, cost: f64, actions: u64| {
        json!({
            "violations": { "time_pct": time_pct, "requests_pct": time_pct / 3.0 }, "cost_usd": cost,
            "unit_hours": cost / 0.17, "theta_under": time_pct / 10.0, "theta_over": 31.25, "actions": actions,
        })
    };
    let mut prescale = system(0.425, 1234.5, 310);
    prescale["regret_to_oracle"] = json!(0.125);
    let mut hpa = system(2.5, 1310.25, 412);
    hpa["chosen"] = json!("target=0.60");
    hpa["scale_downs"] = json!(17);
    let mut nothing = system(9.0, 900.0, 0);
    nothing["theta_over"] = json!(null);
    let card = json!({
        "systems": { "oracle": system(0.0, 1001.0, 200), "hpa": hpa, "static-peak": system(0.0, 3456.78, 0),
            "prescale": prescale, "zz<i>": nothing },
        "forecast": {
            "checkout": { "mase": 0.8123, "coverage_pct": 98.75, "forecasts": 1440, "models": { "holt": 40, "lstm": 1400 } },
            NASTY: { "mase": null, "forecasts": 12, "models": {} },
        },
        "frontier": { "prescale": [[1100.0, 1.5], [1234.5, 0.425]], "hpa": [[1200.0, 6.0], [1310.25, 2.5]] },
        "seeds": 10,
    });
    let mut report = BacktestReport::new("Back-test of <checkout>", &card).unwrap();
    report.budget_pct = Some(1.0);
    report.services = vec![service("checkout", 600), service(NASTY, 60)];
    report.settings = json!({ "leads": ["5m"], "policy": { "quantile": 0.99, "name": NASTY }, "extra": null });
    report.timings = BTreeMap::from([("forecast".to_owned(), 12.34), ("fleets".to_owned(), 3.0)]);
    report.notes = vec![format!("Beware of {NASTY}.")];
    report
}

fn service(name: &str, minutes: usize) -> ServiceReport {
    let start = Timestamp::from_millis(1_774_051_200_000);
    let step = Span::from_minutes(1);
    let at = |minute: usize| start + Span::from_minutes(minute as i64);
    let value = |minute: usize| 40.0 + 30.0 * (minute as f64 / 90.0).sin();
    let load: Vec<Option<f64>> = (0..minutes).map(|minute| (minute % 50 != 7).then(|| value(minute))).collect();
    let needed: Vec<Option<f64>> = load.iter().map(|load| load.map(|load| (load / 10.0).ceil())).collect();
    let ready = |more: f64| (0..minutes).step_by(10).map(|m| (at(m), (value(m) / 10.0).ceil() + more)).collect();
    let forecasts: Vec<ForecastSample> = (10..minutes - 20)
        .step_by(20)
        .map(|minute| ForecastSample {
            origin: at(minute),
            levels: vec![0.1, 0.5, 0.9],
            values: (1..=15).map(|k| [0.8, 1.0, 1.2].map(|share| share * value(minute + k)).to_vec()).collect(),
        })
        .collect();
    let kinds = [DecisionKind::ScaleUp, DecisionKind::None, DecisionKind::ScaleDown];
    let decisions = (0..minutes)
        .step_by(15)
        .map(|minute| DecisionMark {
            at: at(minute),
            kind: kinds[minute / 15 % 3],
            desired: value(minute) as u32 / 10,
            reasons: vec![format!("forecast-need: {NASTY} peaks at {minute}")],
        })
        .collect();
    let actual = |moment: Timestamp| load.get((moment.since(start).millis() / 60_000) as usize).copied().flatten();
    ServiceReport {
        name: name.into(),
        unit_capacity: Some(10.0),
        start,
        step,
        calibration: calibration(&forecasts, actual, step),
        needed,
        capacity: BTreeMap::from([("prescale".to_owned(), ready(0.0)), ("hpa".to_owned(), ready(1.0))]),
        forecasts,
        decisions,
        load,
    }
}

/// The text between the tags that `data-path` is in, by path.
fn cells(html: &str) -> Vec<(String, String)> {
    html.split("data-path=\"")
        .skip(1)
        .filter_map(|rest| {
            let (path, rest) = rest.split_once('"')?;
            let text = rest.split_once('>')?.1.split('<').next()?;
            Some((unescaped(path), unescaped(text)))
        })
        .collect()
}

fn unescaped(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.into_iter().fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

/// The page up to its data, and the data.
fn parts(html: &str) -> (&str, Value) {
    let (page, rest) = html.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    (page, serde_json::from_str(json).unwrap())
}

#[test]
fn the_table_reads_well() {
    insta::assert_snapshot!(table(&sample()));
    assert!(table(&sample()).lines().all(|line| line.chars().count() <= 120));
}

#[test]
fn the_json_has_the_score_card_at_its_top_and_can_be_read_back() {
    let report = sample();
    let json = report.to_json().unwrap();
    assert_eq!(json["systems"]["hpa"]["cost_usd"], 1310.25);
    assert_eq!((&json["seeds"], &json["frontier"]["hpa"][1]), (&json!(10), &json!([1310.25, 2.5])));
    assert_eq!(json["headline"]["against"], "static-peak");
    assert_eq!(json["services"][0]["load"].as_array().unwrap().len(), 600);
    let mut back: BacktestReport = serde_json::from_value(json).unwrap();
    back.card.shift_remove("headline");
    assert_eq!(back, report);
}

#[test]
fn each_number_on_the_page_is_in_its_json_under_the_path_of_its_cell() {
    let html = html(&sample());
    let (page, data) = parts(&html);
    let cells = cells(page);
    assert!(cells.len() > 60, "{} cells", cells.len());
    for (path, text) in &cells {
        let value = at_path(&data, path).unwrap_or_else(|| panic!("{path} leads nowhere"));
        match value.as_f64() {
            Some(number) if !path.starts_with("settings") => {
                let shown = text.replace(',', "");
                let digits = shown.split_once('.').map_or(0, |(_, digits)| digits.len());
                assert_eq!(shown, format!("{number:.digits$}"), "{path}");
            }
            _ => assert_eq!(
                value.as_str().map_or(value.to_string().replace("null", "–"), str::to_owned),
                *text,
                "{path}"
            ),
        }
    }
    let has = |path: &str, text: &str| cells.contains(&(path.to_owned(), text.to_owned()));
    assert!(has("systems.hpa.cost_usd", "1,310.25") && has("systems.hpa.scale_downs", "17"));
    assert!(has("forecast.checkout.models.lstm", "1,400") && has("timings.forecast", "12.3"));
    assert!(has("services.0.calibration.1.level_pct", "50.0") && has("budget_pct", "1.000"));
}

#[test]
fn what_there_is_not_is_a_dash_without_a_path() {
    let html = html(&sample());
    assert!(html.contains("<td>–</td>"));
    let mut bare = BacktestReport::new("nothing", &json!({ "systems": {} })).unwrap();
    bare.settings = Value::Null;
    let page = super::html(&bare);
    well_formed(&page);
    assert!(!parts(&page).0.contains("data-path="));
    assert_eq!(table(&bare), "nothing\n");
}

/// Walks the tags: each is closed by its own kind, and the text between has no markup of its own.
fn well_formed(html: &str) {
    const VOID: [&str; 4] = ["meta", "link", "input", "br"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(!text.contains('>'), "a stray `>` in {text:?}");
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        assert!(!tag.contains('<'), "a tag within <{tag}>");
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "before {:?}", rest.chars().take(80).collect::<String>());
        } else if name == "script" || name == "style" {
            // Raw text to its own end.
            let close = format!("</{name}>");
            rest = rest.split_once(close.as_str()).expect("raw text ends").1;
        } else if !VOID.contains(&name) && !name.starts_with('!') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_page_is_well_formed_and_no_text_of_a_user_is_markup() {
    let html = html(&sample());
    well_formed(&html);
    assert!(!html.contains("<b onmouseover") && !html.contains("<i>zz") && !html.contains("zz<i>"));
    // One block of data and one of code, no more.
    assert_eq!(html.matches("</script>").count(), 2);
    let data = html.split_once("id=\"data\">").unwrap().1.split("</script>").next().unwrap();
    assert!(!data.contains(['<', '>', '&', '\u{2028}']));
    assert_eq!(parts(&html).1["services"][1]["name"], NASTY);
}

#[test]
fn the_page_needs_nothing_else() {
    let html = html(&sample());
    for word in
        ["src=", "url(", "@import", "fetch(", "XMLHttpRequest", "import(", "innerHTML", "insertAdjacentHTML", "eval("]
    {
        assert!(!html.contains(word), "the page has `{word}`");
    }
    let rest = html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
    assert!(!rest.contains("http:") && !rest.contains("https:") && !rest.contains("{{"));
    assert!(html.contains("default-src 'none'") && html.contains("prefers-color-scheme: dark"));
}

#[test]
fn the_page_is_bounded_however_long_the_history_and_how_many_the_services() {
    let mut report = sample();
    let long = ServiceReport {
        load: (0..120_000).map(|minute| Some(f64::from(minute % 977) + 0.123_456_789)).collect(),
        needed: (0..120_000).map(|minute| Some(f64::from(minute % 97))).collect(),
        ..service("long", 600)
    };
    let origin = long.start;
    let timeline = |m: i64| (origin + Span::from_minutes(m), (m % 31) as f64);
    let long = ServiceReport {
        capacity: (0..12).map(|system| (format!("system-{system}"), (0..120_000).map(timeline).collect())).collect(),
        decisions: long.decisions.iter().cycle().take(50_000).cloned().collect(),
        forecasts: long.forecasts.iter().cycle().take(5_000).cloned().collect(),
        ..long
    };
    report.services = vec![long];
    let data = page_data(&report);
    let service = &data["services"][0];
    for curve in [&service["load"], &service["needed"], &service["capacity"]["system-3"]] {
        let points = curve["t"].as_array().unwrap().len();
        assert!((1500..=4000).contains(&points), "{points} points");
        assert_eq!(curve["v"].as_array().unwrap().len(), points);
    }
    let load = service["load"]["v"].as_array().unwrap();
    let extremes =
        load.iter().filter_map(Value::as_f64).fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    assert_eq!(extremes, (0.123457, 976.123));
    let decisions = service["decisions"].as_array().unwrap().len();
    assert!(decisions <= 2000 && service["decisions_left_out"].as_u64().unwrap() as usize == 50_000 - decisions);
    let forecasts = service["forecasts"].as_array().unwrap().len();
    assert!(forecasts <= 200 && service["forecasts_left_out"].as_u64().unwrap() as usize == 5_000 - forecasts);
    assert!(html(&report).len() < 3_000_000);
    report.services = vec![self::service("small", 5000); 300];
    assert!(html(&report).len() < 25_000_000);
}

#[test]
fn a_thinned_curve_keeps_its_ends_extremes_and_gaps() {
    let spike = |at: i64| {
        if at == 5_001 {
            Some(99.0)
        } else if at == 7_003 {
            None
        } else {
            Some((at % 10) as f64)
        }
    };
    let points: thin::Points = (0..10_000).map(|at| (at, spike(at))).collect();
    let kept = thin::thinned(points.clone(), 100);
    assert!(kept.len() <= 100 && kept.is_sorted_by_key(|point| point.0));
    assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[9_999]));
    assert!(kept.contains(&(5_001, Some(99.0))) && kept.contains(&(7_003, None)));
    assert_eq!(thin::thinned(points.clone(), 10_000), points);
    let steps: thin::Points =
        vec![(0, Some(1.0)), (1, Some(1.0)), (2, None), (3, None), (4, Some(1.0)), (5, Some(1.0))];
    assert_eq!(thin::changes(steps.clone()), [steps[0], steps[2], steps[4], steps[5]]);
}

#[test]
fn the_headline_is_against_the_cheapest_that_keeps_else_the_least_short() {
    let mut report = sample();
    // HPA is short for 2.5 %, the static peak never; the oracle is no rival.
    assert_eq!(data::headline(&report)["against"], "static-peak");
    report.budget_pct = Some(3.0);
    let headline = data::headline(&report);
    assert_eq!((&headline["against"], &headline["against_keeps"]), (&json!("hpa"), &json!(true)));
    assert!((headline["saved_pct"].as_f64().unwrap() - 100.0 * (1.0 - 1234.5 / 1310.25)).abs() < 1e-9);
    let systems = report.card["systems"].as_object_mut().unwrap();
    systems.shift_remove("static-peak");
    report.budget_pct = None;
    let headline = data::headline(&report);
    assert_eq!((&headline["against"], &headline["against_keeps"]), (&json!("hpa"), &json!(false)));
    report.card["systems"].as_object_mut().unwrap().shift_remove("prescale");
    assert_eq!(data::headline(&report), json!({}));
}

#[test]
fn paths_lead_back_also_through_keys_with_dots() {
    let value = json!({ "a.b": { "c\\": [1, { "d": 2 }] } });
    let path = path_of(["a.b", "c\\", "1", "d"]);
    assert_eq!(path, "a\\.b.c\\\\.1.d");
    assert_eq!(at_path(&value, &path), Some(&json!(2)));
    assert_eq!(at_path(&value, "a.b"), None);
    assert_eq!(at_path(&value, "a\\.b.c\\\\.9"), None);
}

#[test]
fn numbers_read_the_same_everywhere() {
    for (value, digits, expected) in [
        (Some(1_234_567.891), 2, "1,234,567.89"),
        (Some(-1234.5), 1, "-1,234.5"),
        (Some(999.0), 0, "999"),
        (Some(-0.0001), 3, "0.000"),
        (None, 2, "–"),
        (Some(f64::NAN), 2, "NaN"),
    ] {
        assert_eq!(words::grouped(value, digits), expected);
    }
    assert_eq!(words::escaped("a<b>&\"'\u{7}\n"), "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}\n");
}

#[test]
fn calibration_counts_over_all_steps() {
    let step = Span::from_minutes(1);
    let origin = Timestamp::from_millis(0);
    let sample =
        ForecastSample { origin, levels: vec![0.9, 0.5], values: vec![vec![3.0, 1.0], vec![3.0, 2.0], vec![3.0, 9.0]] };
    let load = |moment: Timestamp| {
        [None, Some(1.0), Some(4.0), None].get((moment.millis() / 60_000) as usize).copied().flatten()
    };
    let points = calibration(&[sample], load, step);
    let found: Vec<_> = points.iter().map(|point| (point.level_pct, point.observed_pct, point.forecasts)).collect();
    assert_eq!(found, [(50.0, 50.0, 2), (90.0, 50.0, 2)]);
}
