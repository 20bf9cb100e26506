//! What the client makes of answers, against a server on this machine that gives them. The real one is in `tests/it/registry.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

/// Answers requests in order, each with a status line and a body; gives back the requests' lines.
fn server(answers: Vec<(&'static str, String)>) -> (String, JoinHandle<Vec<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/api", listener.local_addr().unwrap());
    let work = move || {
        let answer = |(status, body): (&str, String)| {
            let (stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
            let request: Vec<String> = lines.collect();
            let length = body.len();
            write!(&stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .unwrap();
            request
        };
        answers.into_iter().map(answer).collect()
    };
    (endpoint, std::thread::spawn(work))
}

fn registry(endpoint: &str, key: Option<&str>) -> Registry {
    let (api_key, api_secret) = (key.map(str::to_owned), key.map(|_| "s:cret".to_owned()));
    Registry::open(&RegistrySettings { endpoint: endpoint.to_owned(), api_key, api_secret }).unwrap()
}

#[test]
fn a_schema_comes_with_what_it_refers_to() {
    let main =
        r#"{"schema":"main","schemaType":"PROTOBUF","references":[{"name":"a.proto","subject":"a/b c","version":3}]}"#;
    let (endpoint, served) = server(vec![
        ("200 OK", main.to_owned()),
        ("200 OK", r#"{"subject":"a/b c","id":1,"version":3,"schema":"inner","schemaType":"PROTOBUF"}"#.to_owned()),
    ]);
    let schema = registry(&format!("{endpoint}/"), Some("key")).schema(7).unwrap().unwrap();
    assert_eq!((schema.kind, schema.text.as_str()), (SchemaKind::Protobuf, "main"));
    assert_eq!((schema.references[0].0.as_str(), schema.references[0].1.text.as_str()), ("a.proto", "inner"));
    let requests = served.join().unwrap();
    assert_eq!(requests[0][0], "GET /api/schemas/ids/7 HTTP/1.1");
    assert_eq!(requests[1][0], "GET /api/subjects/a%2Fb%20c/versions/3 HTTP/1.1");
    assert!(
        requests[0].iter().any(|line| line.eq_ignore_ascii_case("authorization: Basic a2V5OnM6Y3JldA==")),
        "{requests:?}"
    );
}

#[test]
fn only_the_registry_itself_says_that_a_schema_is_unknown() {
    let unknown = r#"{"error_code":40403,"message":"Schema 7 not found"}"#;
    for (status, body, expected) in [
        ("404 Not Found", unknown, Ok(())),
        ("404 Not Found", r#"{"status":404}"#, Err("has to end where")),
        ("401 Unauthorized", "", Err("api_key")),
        ("500 Internal Server Error", unknown, Err("status 500")),
        ("200 OK", "<html>", Err("can't be used")),
        ("200 OK", r#"{"schema":"x","schemaType":"THRIFT"}"#, Err("THRIFT")),
    ] {
        let (endpoint, served) = server(vec![(status, body.to_owned())]);
        match (registry(&endpoint, None).schema(7), expected) {
            (Ok(None), Ok(())) => {}
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (other, _) => panic!("{status} {body}: {other:?}"),
        }
        served.join().unwrap();
    }
}

#[test]
fn what_is_no_registry_is_named() {
    for endpoint in ["localhost:8081", "ftp://localhost", ""] {
        let settings = RegistrySettings { endpoint: endpoint.to_owned(), ..RegistrySettings::default() };
        let error = Registry::open(&settings).err().unwrap().to_string();
        assert!(error.contains("hint:"), "{error}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = registry(&format!("http://127.0.0.1:{port}"), None).schema(1).unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
}

#[test]
fn a_secret_is_not_shown() {
    let settings = RegistrySettings { api_secret: Some("hush".to_owned()), ..RegistrySettings::default() };
    assert!(!format!("{settings:?}").contains("hush"));
}

#[test]
fn https_begins_with_a_handshake_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let mut record = [0; 2];
        listener.accept().unwrap().0.read_exact(&mut record).unwrap();
        record
    });
    let error = registry(&endpoint, None).schema(1).unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    // A handshake record of TLS 1.x, RFC 8446 5.1.
    assert_eq!(served.join().unwrap(), [22, 3]);
}
