use super::*;

#[test]
fn shipped_pipelines_compile() {
    for name in ["requests", "metrics", "access_log"] {
        let path = format!("{}/../../pipelines/{name}.sql", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        compile(&text).unwrap_or_else(|error| panic!("{name}:\n{error}"));
    }
}
