//! Compiles the protocols of `proto/` to Rust. Rule: protoc is not needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[expect(clippy::print_stdout, reason = "so a build script speaks to cargo")]
    {
        println!("cargo:rerun-if-changed=proto");
    }
    let files = protox::compile(["externalscaler.proto", "envoy/service/ratelimit/v3/rls.proto"], ["proto"])?;
    // `ServerBuilder` and clients for tests; connecting over TCP is left to who uses them.
    tonic_prost_build::configure().build_transport(false).include_file("protocols.rs").compile_fds(files)?;
    Ok(())
}
