//! Compiles the protocols of `proto/` to Rust. Rule: protoc is not needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["externalscaler.proto", "envoy/service/ratelimit/v3/rls.proto"], ["proto"])?;
    // How a client connects is its own affair.
    tonic_prost_build::configure().build_transport(false).include_file("protocols.rs").compile_fds(files)?;
    Ok(())
}
