//! The operations of `fused.cpp`.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;

/// AdamW's settings, as `fused.cpp` lays them out.
#[repr(C)]
pub(super) struct AdamWSettings {
    pub(super) lr: f64,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    pub(super) weight_decay: f64,
    pub(super) step: f64,
    pub(super) grad_scale: f64,
}

unsafe extern "C" {
    fn astropt_layer_norm_backward(
        dy: *const C_tensor,
        x: *const C_tensor,
        mean: *const C_tensor,
        rstd: *const C_tensor,
        gain: *const C_tensor,
        dx: *mut *mut C_tensor,
        dgain: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn astropt_efficient_attention_backward(
        dout: *const C_tensor,
        inputs: *const *const C_tensor,
        bias: *const C_tensor,
        out: *const C_tensor,
        lse: *const C_tensor,
        causal: bool,
        scale: f64,
        gradients: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn astropt_adamw(
        lists: *const *const C_tensor,
        count: usize,
        settings: *const AdamWSettings,
    ) -> *mut c_char;
    fn astropt_prepare();
    fn astropt_version_built() -> u64;
    fn astropt_version_loaded() -> u64;
    fn astropt_library() -> *const c_char;
    fn free(memory: *mut c_void);
}

/// Panics with what libtorch says, as `tch` does; kernels have no error to return.
fn check(operation: &str, message: *mut c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: a message is a C string made by `strdup`, and ours to free.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        free(message.cast());
        text
    };
    panic!("libtorch, {operation}: {text}");
}

/// Gradients of layer normalisation for its input `[n, d]` and its gain `[d]`; `mean` and
/// `rstd` are `[n, 1]`.
pub(super) fn layer_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    gain: &Tensor,
) -> (Tensor, Tensor) {
    let (mut dx, mut dgain) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the tensors live through the call; what is written to the last two is a new
    // tensor each, or an error is returned.
    let message = unsafe {
        astropt_layer_norm_backward(
            dy.as_ptr(),
            x.as_ptr(),
            mean.as_ptr(),
            rstd.as_ptr(),
            gain.as_ptr(),
            &raw mut dx,
            &raw mut dgain,
        )
    };
    check("layer norm backward", message);
    // SAFETY: both were made by `new at::Tensor` and have no other owner.
    unsafe { (Tensor::from_ptr(dx), Tensor::from_ptr(dgain)) }
}

/// Gradients of memory-efficient attention (CUDA) for queries, keys and values, all
/// `[b, h, t, s]` like `dout` and `out`; `bias` is added to the scores.
pub(super) fn efficient_attention_backward(
    dout: &Tensor,
    inputs: [&Tensor; 3],
    bias: Option<&Tensor>,
    [out, lse]: [&Tensor; 2],
    causal: bool,
    scale: f64,
) -> [Tensor; 3] {
    let inputs = inputs.map(Tensor::as_ptr);
    let mut gradients = [std::ptr::null_mut(); 3];
    // SAFETY: the tensors live through the call; three new ones are written, or an error is
    // returned.
    let message = unsafe {
        astropt_efficient_attention_backward(
            dout.as_ptr(),
            inputs.as_ptr(),
            bias.map_or(std::ptr::null(), Tensor::as_ptr),
            out.as_ptr(),
            lse.as_ptr(),
            causal,
            scale,
            gradients.as_mut_ptr(),
        )
    };
    check("attention backward", message);
    // SAFETY: each was made by `new at::Tensor` and has no other owner.
    gradients.map(|gradient| unsafe { Tensor::from_ptr(gradient) })
}

/// One AdamW step in place on parameters, each `[value, gradient, moment 1, moment 2]`;
/// gradients are overwritten.
pub(super) fn adamw(parameters: &mut [[Tensor; 4]], settings: &AdamWSettings) {
    let lists: Vec<*const C_tensor> =
        (0..4).flat_map(|part| parameters.iter().map(move |p| p[part].as_ptr())).collect();
    // SAFETY: the list holds four tensors per parameter, which live through the call and are
    // borrowed mutably.
    let message =
        unsafe { astropt_adamw(lists.as_ptr(), parameters.len(), std::ptr::from_ref(settings)) };
    check("AdamW", message);
}

/// Settings of the whole process; to be made once, before tensors are.
pub(crate) fn prepare() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: takes nothing, and changes options of libtorch and of the C library that may be
    // changed at any time.
    ONCE.call_once(|| unsafe { astropt_prepare() });
}

/// The libtorch that was loaded.
pub(crate) struct Library {
    /// The version that this crate was compiled for, as libtorch writes it in one number: major,
    /// minor and patch from the highest byte on.
    pub(crate) built: u64,
    /// The version that was loaded.
    pub(crate) loaded: u64,
    /// Where it lies, where the system tells.
    pub(crate) path: Option<String>,
}

/// What was loaded. Asks for no tensor, whose layout another version may have changed.
pub(crate) fn library() -> Library {
    // SAFETY: the functions take nothing; the name is null, or a C string that the system keeps
    // as long as the library is loaded.
    unsafe {
        let path = astropt_library();
        let path = (!path.is_null()).then(|| CStr::from_ptr(path).to_string_lossy().into_owned());
        Library { built: astropt_version_built(), loaded: astropt_version_loaded(), path }
    }
}
