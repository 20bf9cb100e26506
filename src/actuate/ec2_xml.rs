//! EC2's answers, read from XML. Rule: an answer that is cut off, or is another one, is an error and never half an answer.

use aws_sdk_autoscaling::error::ErrorMetadata;
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use prescale_domain::PoolId;

/// One page of an answer, and the token of the next.
#[derive(Debug, PartialEq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
}

/// The price of a spot pool since a moment, which sorts by its text.
#[derive(Debug, PartialEq)]
pub(crate) struct SpotPrice {
    pub(crate) pool: PoolId,
    pub(crate) usd_hour: f64,
    pub(crate) since: String,
}

/// Ids of instances, and whether each is a spot instance, from an answer to `DescribeInstances`.
pub(crate) fn instances(xml: &str) -> Result<Page<(String, bool)>, XmlDecodeError> {
    let path = ["reservationSet", "item", "instancesSet", "item"];
    page(xml, "DescribeInstancesResponse", &path, &mut |mut instance| {
        let [id, lifecycle] = fields(&mut instance, ["instanceId", "instanceLifecycle"])?;
        let id = id.ok_or_else(|| XmlDecodeError::custom("an instance without an id"))?;
        Ok(Some((id, lifecycle.as_deref() == Some("spot"))))
    })
}

/// From an answer to `DescribeSpotPriceHistory`.
pub(crate) fn spot_prices(xml: &str) -> Result<Page<SpotPrice>, XmlDecodeError> {
    page(xml, "DescribeSpotPriceHistoryResponse", &["spotPriceHistorySet", "item"], &mut |mut row| {
        let [instance_type, zone, price, since] =
            fields(&mut row, ["instanceType", "availabilityZone", "spotPrice", "timestamp"])?;
        let (Some(instance_type), Some(zone), Some(price), Some(since)) = (instance_type, zone, price, since) else {
            return Err(XmlDecodeError::custom("a spot price without its pool or its time"));
        };
        let usd_hour = price.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
        let usd_hour = usd_hour.ok_or_else(|| XmlDecodeError::custom(format!("`{price}` is not a price")))?;
        Ok(Some(SpotPrice { pool: PoolId { instance_type, zone }, usd_hour, since }))
    })
}

/// Code and message of a refusal; neither where it is not in EC2's words.
pub(crate) fn refusal(xml: &str) -> ErrorMetadata {
    let (mut code, mut message) = (None, None);
    let mut document = Document::new(xml);
    if let Ok(root) = document.root_element() {
        let read = each(root, &["Errors", "Error"], &mut |mut error| {
            [code, message] = fields(&mut error, ["Code", "Message"])?;
            Ok(())
        });
        if read.is_err() {
            (code, message) = (None, None);
        }
    }
    let mut error = ErrorMetadata::builder();
    if let Some(code) = code {
        error = error.code(code);
    }
    if let Some(message) = message {
        error = error.message(message);
    }
    error.build()
}

type Found<'f, T> = &'f mut dyn FnMut(ScopedDecoder<'_, '_>) -> Result<T, XmlDecodeError>;

fn page<T>(xml: &str, name: &str, path: &[&str], item: Found<'_, Option<T>>) -> Result<Page<T>, XmlDecodeError> {
    whole(xml, name)?;
    let mut items = Vec::new();
    let mut document = Document::new(xml);
    each(document.root_element()?, path, &mut |found| {
        items.extend(item(found)?);
        Ok(())
    })?;
    let mut document = Document::new(xml);
    let [next] = fields(&mut document.root_element()?, ["nextToken"])?;
    Ok(Page { items, next: next.filter(|token| !token.is_empty()) })
}

/// The decoder takes what is there: that this is all of it has to be looked at first.
fn whole(xml: &str, name: &str) -> Result<(), XmlDecodeError> {
    if let Some(error) = Document::new(xml).find_map(Result::err) {
        return Err(error);
    }
    let mut document = Document::new(xml);
    let mut root = document.root_element()?;
    let found = root.start_el().local().to_owned();
    if found != name {
        return Err(XmlDecodeError::custom(format!("`{found}` where `{name}` was expected")));
    }
    let xml = xml.trim_end();
    let ends = xml.strip_suffix('>').is_some_and(|text| text.trim_end().ends_with(&format!("</{name}")));
    let empty = xml.ends_with("/>") && root.next_tag().is_none();
    if ends || empty { Ok(()) } else { Err(XmlDecodeError::custom(format!("`{name}` is cut off"))) }
}

/// Each element that lies at `path` below this one.
fn each(mut element: ScopedDecoder<'_, '_>, path: &[&str], found: Found<'_, ()>) -> Result<(), XmlDecodeError> {
    let Some((name, below)) = path.split_first() else { return found(element) };
    while let Some(part) = element.next_tag() {
        if part.start_el().local() == *name {
            each(part, below, found)?;
        }
    }
    Ok(())
}

/// Texts of the elements of these names right below this one.
fn fields<const N: usize>(
    element: &mut ScopedDecoder<'_, '_>,
    names: [&str; N],
) -> Result<[Option<String>; N], XmlDecodeError> {
    let mut texts = [const { None }; N];
    while let Some(mut part) = element.next_tag() {
        if let Some(at) = names.iter().position(|name| *name == part.start_el().local()) {
            texts[at] = Some(try_data(&mut part)?.trim().to_owned());
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As EC2 writes it, shortened.
    const INSTANCES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
    <reservationSet>
        <item>
            <reservationId>r-1</reservationId>
            <instancesSet>
                <item><instanceId>i-1</instanceId><placement><availabilityZone>a</availabilityZone></placement>
                    <instanceLifecycle>spot</instanceLifecycle><tagSet><item><key>k</key></item></tagSet></item>
                <item><instanceId>i-2</instanceId></item>
            </instancesSet>
        </item>
        <item><instancesSet><item><instanceId>i-3</instanceId>
            <instanceLifecycle>capacity-block</instanceLifecycle></item></instancesSet></item>
    </reservationSet>
    <nextToken>more&amp;more</nextToken>
</DescribeInstancesResponse>
"#;

    #[test]
    fn instances_are_spot_where_ec2_says_so() {
        let page = instances(INSTANCES).unwrap();
        assert_eq!(page.items, [("i-1".to_owned(), true), ("i-2".to_owned(), false), ("i-3".to_owned(), false)]);
        assert_eq!(page.next.as_deref(), Some("more&more"));
    }

    #[test]
    fn prices_come_with_their_pools() {
        let row = |price: &str| {
            format!(
                "<DescribeSpotPriceHistoryResponse><spotPriceHistorySet><item><instanceType>m5.large</instanceType>\
                 <productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>\
                 <timestamp>2026-01-01T02:00:00.000Z</timestamp><availabilityZone>eu-west-1b</availabilityZone></item>\
                 </spotPriceHistorySet><nextToken/></DescribeSpotPriceHistoryResponse>"
            )
        };
        let page = spot_prices(&row("0.034500")).unwrap();
        let pool = PoolId { instance_type: "m5.large".to_owned(), zone: "eu-west-1b".to_owned() };
        let since = "2026-01-01T02:00:00.000Z".to_owned();
        assert_eq!(page, Page { items: vec![SpotPrice { pool, usd_hour: 0.0345, since }], next: None });
        for wrong in ["", "cheap", "-1", "NaN"] {
            assert!(spot_prices(&row(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_has_its_code() {
        let refused = "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.\
                       </Message></Error></Errors><RequestID>1</RequestID></Response>";
        let error = refusal(refused);
        assert_eq!((error.code(), error.message()), (Some("RequestLimitExceeded"), Some("Request limit exceeded.")));
        assert_eq!(refusal("<!doctype html><title>502</title>").code(), None);
        assert_eq!(refusal("").code(), None);
    }

    #[test]
    fn another_answer_is_no_answer() {
        for wrong in ["", "<html></html>", "nothing", "<DescribeInstancesResponse>", "<DescribeInstancesResponse"] {
            assert!(instances(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_that_is_cut_off_is_an_error(length in 0usize..INSTANCES.len() - 2) {
            prop_assert!(instances(&INSTANCES[..length]).is_err());
        }

        #[test]
        fn no_text_is_a_panic(text in "[<>/a-zA-Z&;\"= ?!\\-\\[\\]]{0,80}") {
            instances(&text).ok();
            refusal(&text);
        }
    }
}
