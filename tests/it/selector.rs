//! The selector of policies as it is trained, shown and switched on. Rule: nothing serves that was not trained for this configuration.

use std::path::Path;

use crate::kit;

fn configure(folder: &Path, selector: &str) -> String {
    let file = folder.join("prescale.toml");
    let service = "[[services]]\nname = \"web\"\nunit_capacity = 10.0\ntarget = { kind = \"simulated\" }\n";
    std::fs::write(&file, format!("[selector]\n{selector}\n{service}")).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_selector_is_trained_shown_and_refused_for_other_policies() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "enabled = true\ntemplates = [\"conservative\", \"aggressive\"]");
    let untrained = kit::run(&["check", "-c", &file]);
    assert_eq!(untrained.code, Some(3), "{}", untrained.stderr);
    assert!(
        untrained.stderr.contains("hint: train it with `prescale selector train -c CONFIG`"),
        "{}",
        untrained.stderr
    );

    let train = |seed: &str| {
        let own = ["selector", "train", "-c", &file, "--days", "2", "--exam-days", "12", "--seed", seed];
        let trained = kit::run(&own);
        assert_eq!(trained.code, Some(0), "{}", trained.stderr);
        (trained.stdout, std::fs::read(folder.path().join("selector.json")).unwrap())
    };
    let (told, bytes) = train("1");
    // Three services a day.
    let counts = told.lines().find_map(|line| line.strip_prefix("episodes by policy: ")).unwrap();
    let counts: Vec<(&str, u64)> = counts
        .split(", ")
        .filter_map(|part| part.rsplit_once(' '))
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    assert_eq!(counts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["configured", "conservative", "aggressive"]);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 6);
    assert!(told.contains("in 36 episodes of the examination"), "{told}");
    assert_eq!(train("1").1, bytes);
    assert_ne!(train("2").1, bytes);

    let shown = kit::run(&["selector", "show", "-c", &file]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("gain over `configured`"), "{}", shown.stdout);
    assert_eq!(kit::run(&["check", "-c", &file]).code, Some(0));

    let others = configure(folder.path(), "enabled = true\ntemplates = [\"cost-optimized\"]");
    let refused = kit::run(&["check", "-c", &others]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("was not trained to choose between configured, cost-optimized"),
        "{}",
        refused.stderr
    );
    let unknown = configure(folder.path(), "templates = [\"bold\", \"aggressive\", \"aggressive\"]");
    let refused = kit::run(&["check", "-c", &unknown]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    for text in ["selector.templates[0]: `bold` is none of ", "selector.templates[2]: `aggressive` is there twice"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
}
