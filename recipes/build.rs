//! Where `astropt-libtorch` looks for libtorch when it starts: the folder it was built with.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(library) = std::env::var("DEP_ASTROPT_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg-bin=astropt-libtorch=-Wl,-rpath,{library}");
    }
}
