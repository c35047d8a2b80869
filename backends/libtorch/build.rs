//! Compiles the operations of libtorch that the `tch` crate leaves out, and writes where
//! libtorch lies into this crate's tests (as a run path) and for the programs that link it
//! (`DEP_ASTROPT_LIBTORCH_LIB`).

fn main() {
    #[cfg(feature = "linked")]
    linked::main();
}

#[cfg(feature = "linked")]
mod linked {
    use std::env;
    use std::path::PathBuf;

    pub(super) fn main() {
        println!("cargo:rerun-if-changed=src/kernels/fused.cpp");
        println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
        println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
        // Said by torch-sys, which has looked at LIBTORCH and LIBTORCH_USE_PYTORCH.
        let library = env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch lies");
        let library = PathBuf::from(library);
        let library = library.canonicalize().unwrap_or(library);
        let beside = library.parent().map(|root| root.join("include")).unwrap_or_default();
        let include = env::var_os("LIBTORCH_INCLUDE")
            .map_or(beside, |root| PathBuf::from(root).join("include"));
        let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .pic(true)
            .warnings(false)
            .include(&include)
            .include(include.join("torch/csrc/api/include"))
            .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
            .file("src/kernels/fused.cpp");
        if library.join("libtorch_cuda.so").exists() {
            build.define("ASTROPT_CUDA", None);
            println!("cargo:rustc-link-lib=torch_cuda");
        }
        build.compile("astropt_libtorch_fused");
        println!("cargo:rustc-link-search=native={}", library.display());
        println!("cargo:rustc-link-lib=torch_cpu");
        println!("cargo:rustc-link-lib=c10");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
        println!("cargo:lib={}", library.display());
    }
}
