//! `route_template(path)`: the route behind a request path. Ids, dates, hashes, tokens and addresses become placeholders;
//! query string and fragment go. The result is short whatever comes in: it can be a GROUP BY key.
//!
//! `/users/42/orders/5f0c…?page=2` → `/users/{id}/orders/{hash}`

use arroyo_udf_plugin::udf;

/// Segments after these are one `*`.
const SEGMENTS_MAX: usize = 8;
/// A longer segment is `{long}`.
const SEGMENT_BYTES_MAX: usize = 40;
/// Hexadecimal digits from which a segment is a hash: shorter ones are words or versions.
const HASH_MIN: usize = 8;
/// Characters from which a mixture of letters and digits is a token.
const TOKEN_MIN: usize = 10;

#[udf]
fn route_template(path: &str) -> String {
    let mut template = String::new();
    for (index, segment) in path_of(path).split('/').filter(|segment| !segment.is_empty()).enumerate() {
        template.push('/');
        if index == SEGMENTS_MAX {
            template.push('*');
            break;
        }
        push_segment(&mut template, segment);
    }
    if template.is_empty() {
        template.push('/');
    }
    template
}

/// Without scheme, authority, query string and fragment.
fn path_of(url: &str) -> &str {
    let url = url.trim();
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => url,
    }
}

fn push_segment(template: &mut String, segment: &str) {
    if let Some(placeholder) = placeholder(segment) {
        template.push_str(placeholder);
    } else if is_file_name(segment) {
        // `app.3f2a9bc1.js`, `42.json`.
        push_parts(template, segment, &['.']);
    } else {
        // `order-42`.
        push_parts(template, segment, &['-', '_', ':', '.', ',', ';', '=', '~', '+']);
    }
}

/// The parts of a segment, each by itself; all of it or `{long}`.
fn push_parts(template: &mut String, segment: &str, separators: &[char]) {
    let start = template.len();
    for part in segment.split_inclusive(separators) {
        let (word, separator) = match part.char_indices().next_back() {
            Some((at, last)) if separators.contains(&last) => part.split_at(at),
            _ => (part, ""),
        };
        template.push_str(placeholder(word).unwrap_or(word));
        template.push_str(separator);
    }
    if template.len() - start > SEGMENT_BYTES_MAX {
        template.truncate(start);
        template.push_str("{long}");
    }
}

/// What stands for a whole segment or part, if it is no word.
fn placeholder(text: &str) -> Option<&'static str> {
    let is = |kind: fn(&u8) -> bool| text.bytes().all(|byte| kind(&byte));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if text.is_empty() {
        None
    } else if digits == text.len() {
        Some("{id}")
    } else if is_uuid(text) {
        Some("{uuid}")
    } else if is_date(text) {
        Some("{date}")
    } else if is_address(text) {
        Some("{email}")
    } else if text.len() >= HASH_MIN && is(u8::is_ascii_hexdigit) && (digits > 0 || text.len() >= 2 * HASH_MIN) {
        Some("{hash}")
    } else if is_token(text, digits) {
        Some("{token}")
    } else {
        None
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    let fits = |length: &usize| {
        parts.next().is_some_and(|part| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    lengths.iter().all(fits) && parts.next().is_none()
}

/// `2026-05-01`, and with a time.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
        && matches!(bytes.get(10), None | Some(b'T' | b't' | b'_'))
}

/// `a@b.c`, also with `%40`.
fn is_address(text: &str) -> bool {
    let host = text.split_once('@').or_else(|| text.split_once("%40"));
    host.is_some_and(|(name, host)| !name.is_empty() && host.trim_matches('.').contains('.'))
}

/// Letters and digits in no order that a word or a version has: base64, base62, JSON web tokens.
fn is_token(text: &str, digits: usize) -> bool {
    let alphabet =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'=' | b'+' | b'~' | b'%');
    // A web token has dots, between parts that are long themselves; a file name has short ones.
    let short = text.contains('.') && text.split('.').any(|part| part.len() < TOKEN_MIN);
    if text.len() < TOKEN_MIN || short || !text.bytes().all(alphabet) {
        return false;
    }
    let bytes = text.as_bytes();
    let changes = |kind: fn(&u8) -> bool| bytes.windows(2).filter(|pair| kind(&pair[0]) != kind(&pair[1])).count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    // Words joined by separators have one change at each side of a number; a token has many.
    let words = text.split(['-', '_', '.', '=', '+', '~', '%']).filter(|word| !word.is_empty());
    let plain = words.clone().all(|word| {
        let word = word.as_bytes();
        word.iter().all(u8::is_ascii_digit) || word[1..].iter().all(u8::is_ascii_lowercase)
    });
    if plain {
        return false;
    }
    let mixed_digits = digits >= 3 && letters >= 3 && changes(u8::is_ascii_digit) >= 3;
    let mixed_case = text.len() >= 2 * TOKEN_MIN && changes(u8::is_ascii_uppercase) >= 8;
    mixed_digits || mixed_case
}

/// A name with an extension such as `.json`.
fn is_file_name(segment: &str) -> bool {
    segment.rsplit_once('.').is_some_and(|(name, extension)| {
        let short = (1..=5).contains(&extension.len());
        !name.is_empty()
            && short
            && extension.bytes().all(|b| b.is_ascii_alphanumeric())
            && extension.bytes().any(|b| b.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/users/42/orders", "/users/{id}/orders"),
            ("/users/42/orders/", "/users/{id}/orders"),
            ("//users//42", "/users/{id}"),
            ("/a?b=1#c", "/a"),
            ("/a#c?b", "/a"),
            ("https://shop.example:8443/cart/7?x", "/cart/{id}"),
            ("https://shop.example", "/"),
            ("/o/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/o/{uuid}"),
            ("/blob/d41d8cd98f00b204e9800998ecf8427e", "/blob/{hash}"),
            ("/c/9fceb02", "/c/9fceb02"),
            ("/c/9fceb02d", "/c/{hash}"),
            ("/m/ada@example.org/inbox", "/m/{email}/inbox"),
            ("/m/ada%40example.org", "/m/{email}"),
            ("/day/2026-05-01/hits", "/day/{date}/hits"),
            ("/day/2026-05-01T10:00:00Z", "/day/{date}"),
            ("/order-12345/page_2", "/order-{id}/page_{id}"),
            ("/static/app.3f2a9bc1.js", "/static/app.{hash}.js"),
            ("/export/42.json", "/export/{id}.json"),
            ("/t/dGhpcyBpcyBhIHRva2Vu", "/t/{token}"),
            ("/t/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN", "/t/{token}"),
            ("/u/x7k9q2m4p1", "/u/{token}"),
        ] {
            assert_eq!(route_template(path), expected, "{path}");
        }
    }

    #[test]
    fn what_stays() {
        for path in [
            "/api/v1/checkout",
            "/oauth2/authorize",
            "/docs/how-to-configure-the-autoscaler",
            "/index.html",
            "/facade",
            "/getUserProfile",
            "/.well-known/security.txt",
            "/search/größe",
        ] {
            assert_eq!(route_template(path), path);
        }
    }

    #[test]
    fn the_result_is_bounded_and_a_template_of_itself() {
        let long = format!("/{}", "ä".repeat(5000));
        let deep = "/a".repeat(5000);
        let wide = format!("/{}", "1-".repeat(5000));
        for path in [long.as_str(), deep.as_str(), wide.as_str(), "/{}//--..::@@%%%40", "\u{0}/\u{10ffff}"] {
            let template = route_template(path);
            assert!(template.len() <= (SEGMENTS_MAX + 1) * (SEGMENT_BYTES_MAX + 1), "{template}");
            assert_eq!(route_template(&template), template);
        }
        assert_eq!(route_template(&long), "/{long}");
        assert_eq!(route_template(&deep), "/a/a/a/a/a/a/a/a/*");
    }
}
