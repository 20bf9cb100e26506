//! Node groups and queues.

use serde_json::json;

use super::*;

fn cluster() -> Desk {
    let mut desk = Desk::new();
    let create = json!({"name": "prod", "roleArn": "r", "resourcesVpcConfig": {"subnetIds": ["subnet-a", "subnet-b"]}});
    let made = desk.rest("POST", "/clusters", &create).unwrap();
    assert_eq!(made["cluster"]["status"], "CREATING");
    desk.wait(600);
    assert_eq!(desk.rest("GET", "/clusters/prod", &json!({})).unwrap()["cluster"]["status"], "ACTIVE");
    desk
}

fn nodegroup(desk: &mut Desk) -> Value {
    desk.rest("GET", "/clusters/prod/node-groups/spot", &json!({})).unwrap()["nodegroup"].clone()
}

fn with_group() -> Desk {
    let mut desk = cluster();
    let create = json!({
        "nodegroupName": "spot", "capacityType": "SPOT", "nodeRole": "r", "subnets": ["subnet-a"],
        "instanceTypes": ["m5.large", "m6i.large"], "scalingConfig": {"minSize": 1, "maxSize": 10, "desiredSize": 3},
    });
    let made = desk.rest("POST", "/clusters/prod/node-groups", &create).unwrap();
    assert_eq!(made["nodegroup"]["status"], "CREATING");
    desk.wait(300);
    assert_eq!(nodegroup(&mut desk)["status"], "ACTIVE");
    desk
}

#[test]
fn a_node_group_and_its_auto_scaling_group_agree() {
    let mut desk = with_group();
    let group = nodegroup(&mut desk)["resources"]["autoScalingGroups"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(desk.serving(&group).len(), 3);
    assert_eq!(desk.bought(), (0, 3));
    desk.set_desired(&group, 5);
    assert_eq!(nodegroup(&mut desk)["scalingConfig"], json!({"minSize": 1, "maxSize": 10, "desiredSize": 5}));
    let update = json!({"scalingConfig": {"minSize": 4, "desiredSize": 6}});
    let path = "/clusters/prod/node-groups/spot/update-config";
    let begun = desk.rest("POST", path, &update).unwrap()["update"].clone();
    assert_eq!((&begun["status"], &begun["type"]), (&json!("InProgress"), &json!("ConfigUpdate")));
    let body = desk.describe(&group);
    assert_eq!((all(&body, "MinSize"), all(&body, "DesiredCapacity")), (vec!["4".into()], vec!["6".into()]));
    // One change at a time.
    let (status, refusal) = desk.rest("POST", path, &update).unwrap_err();
    assert_eq!(status, 409);
    assert_eq!(refusal["message"], "Nodegroup cannot be updated as it is currently not in Active State");
    let id = begun["id"].as_str().unwrap();
    let look = format!("/clusters/prod/updates/{id}?nodegroupName=spot");
    assert_eq!(desk.rest("GET", &look, &json!({})).unwrap()["update"]["status"], "InProgress");
    desk.wait(31);
    assert_eq!(desk.rest("GET", &look, &json!({})).unwrap()["update"]["status"], "Successful");
    assert_eq!(nodegroup(&mut desk)["status"], "ACTIVE");
    let ids = desk.rest("GET", "/clusters/prod/updates?nodegroupName=spot", &json!({})).unwrap();
    assert_eq!(ids["updateIds"], json!([id]));
    let names = desk.rest("GET", "/clusters/prod/node-groups", &json!({})).unwrap();
    assert_eq!(names["nodegroups"], json!(["spot"]));
}

#[test]
fn sizes_out_of_order_and_unknown_names_are_refused() {
    let mut desk = with_group();
    let path = "/clusters/prod/node-groups/spot/update-config";
    for (config, message) in [
        (json!({"minSize": 8}), "Minimum capacity 8 can't be greater than desired size 3"),
        (json!({"desiredSize": 50}), "desiredSize can't be greater than maxSize"),
        (json!({"maxSize": 2}), "desiredSize can't be greater than maxSize"),
        (json!({"minSize": -1}), "minSize -1 is not valid"),
    ] {
        let (status, refusal) = desk.rest("POST", path, &json!({"scalingConfig": config})).unwrap_err();
        assert_eq!((status, &refusal["message"]), (400, &json!(message)));
        assert_eq!(desk.aws.log().last().unwrap().error.as_deref(), Some("InvalidParameterException"));
    }
    for (path, code) in [
        ("/clusters/none", "ResourceNotFoundException"),
        ("/clusters/prod/node-groups/none", "ResourceNotFoundException"),
        ("/clusters/prod/updates/none?nodegroupName=spot", "ResourceNotFoundException"),
        ("/clusters/prod/addons", "UnknownOperationException"),
    ] {
        assert_eq!(desk.rest("GET", path, &json!({})).unwrap_err().0, 404, "{path}");
        assert_eq!(desk.aws.log().last().unwrap().error.as_deref(), Some(code), "{path}");
    }
}

#[test]
fn a_message_is_invisible_for_its_time_and_then_comes_again() {
    let mut desk = Desk::new();
    let made = desk.sqs("CreateQueue", &json!({"QueueName": "q", "Attributes": {"VisibilityTimeout": "10"}}));
    let url = made["QueueUrl"].clone();
    let sent = desk.sqs("SendMessage", &json!({"QueueUrl": url, "MessageBody": "hello"}));
    assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    let receive = json!({"QueueUrl": url});
    let first = desk.sqs("ReceiveMessage", &receive)["Messages"][0].clone();
    assert_eq!((&first["Body"], &first["Attributes"]["ApproximateReceiveCount"]), (&json!("hello"), &json!("1")));
    assert_eq!(desk.sqs("ReceiveMessage", &receive), json!({}));
    let attributes = desk.sqs("GetQueueAttributes", &json!({"QueueUrl": url, "AttributeNames": ["All"]}));
    assert_eq!(attributes["Attributes"]["ApproximateNumberOfMessagesNotVisible"], "1");
    desk.wait(10);
    let second = desk.sqs("ReceiveMessage", &receive)["Messages"][0].clone();
    assert_eq!(second["Attributes"]["ApproximateReceiveCount"], "2");
    // The receipt of the first time no longer counts.
    desk.sqs("DeleteMessage", &json!({"QueueUrl": url, "ReceiptHandle": first["ReceiptHandle"]}));
    desk.wait(10);
    let third = desk.sqs("ReceiveMessage", &receive)["Messages"][0].clone();
    desk.sqs("DeleteMessage", &json!({"QueueUrl": url, "ReceiptHandle": third["ReceiptHandle"]}));
    desk.wait(60);
    assert_eq!(desk.sqs("ReceiveMessage", &receive), json!({}));
}
