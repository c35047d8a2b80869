//! The kernels on Vulkan: the same code that runs on CUDA, on whatever Vulkan finds, a processor
//! for want of a GPU (Mesa's llvmpipe: Debian's mesa-vulkan-drivers).
#![cfg(feature = "vulkan")]

use astropt_core::kernels::{Kernels as _, Platform};
use astropt_core::testkit;
use astropt_core::testkit::kernels::{AttentionCase, Numbers, close, numbers};
use astropt_cuda::kernels::{CubeKernels, Exact, ExactReference};
use burn_tensor::{Tensor, TensorData};
use burn_wgpu::{Wgpu, WgpuDevice};

type Vulkan = Wgpu<f32, i32, u32>;

#[derive(Clone, Copy, Debug)]
struct VulkanPlatform;

impl Platform for VulkanPlatform {
    type Backend = Vulkan;
    type Kernels = CubeKernels;
}

/// Where Vulkan finds nothing the tests have nothing to run on, and say so.
#[allow(clippy::print_stdout, reason = "a skipped test must be seen")]
fn device() -> Option<WgpuDevice> {
    let device = WgpuDevice::DefaultDevice;
    let one = || Tensor::<Vulkan, 1>::ones([1], &WgpuDevice::DefaultDevice).into_data();
    if std::panic::catch_unwind(one).is_err() {
        println!("skipped: Vulkan finds no device here; Mesa's llvmpipe makes one of a processor");
        return None;
    }
    Some(device)
}

#[test]
fn the_kernels_agree_with_the_reference() {
    let Some(device) = device() else { return };
    testkit::kernels::check_against::<VulkanPlatform, ExactReference>(&device)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn whole_models_agree_with_the_reference() {
    let Some(device) = device() else { return };
    testkit::backend::check_platform_against::<VulkanPlatform, ExactReference>(&device)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// More scores than are held at a time.
#[test]
fn attention_in_several_blocks_agrees_with_the_reference() {
    let Some(device) = device() else { return };
    let (b, t, heads, size, scale, seed) = (1, 4200, 1, 8, 1.0, 5);
    for (causal, document, prefix) in [(true, 0, 0), (false, 1500, 0), (true, 0, 900)] {
        let case = AttentionCase { b, t, heads, size, causal, document, prefix, scale, seed };
        case.check::<VulkanPlatform, ExactReference>(&device)
            .unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// Views whose numbers lie apart or start late are read as what they show.
#[test]
fn views_are_read_as_they_look() {
    let Some(device) = device() else { return };
    let mut draw = Numbers::new(3);
    let x: Tensor<Vulkan, 2> = draw.tensor([40, 30], 1.0, &device);
    for view in [x.clone().transpose(), x.clone().narrow(0, 5, 20), x.narrow(1, 5, 20)] {
        let ours = CubeKernels::<Exact>::gelu(view.clone());
        close("gelu", &ours, &ExactReference::gelu(view.clone())).expect("agreement");
        let w: Tensor<Vulkan, 2> = draw.tensor([view.dims()[1], 9], 1.0, &device).transpose();
        let ours = CubeKernels::<Exact>::linear(view.clone(), w.clone(), None);
        let truth = view.clone().matmul(w.transpose());
        close("linear", &ours, &truth).expect("agreement");
    }
}

/// Against sums in double precision on the host, since the reference multiplies with the same
/// kernel: plain and transposed factors, of many rows and few.
#[test]
fn products_are_those_of_the_host() {
    let Some(device) = device() else { return };
    let mut draw = Numbers::new(8);
    for (m, k, n) in [(1, 1, 1), (142, 24, 96), (96, 142, 24), (3, 700, 5), (130, 33, 65)] {
        let a: Tensor<Vulkan, 2> = draw.tensor([m, k], 1.0, &device);
        let b: Tensor<Vulkan, 2> = draw.tensor([k, n], 1.0, &device);
        let (x, y) = (numbers(&a).expect("f32"), numbers(&b).expect("f32"));
        let sum = |i: usize, j: usize| -> f64 {
            (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(y[l * n + j])).sum()
        };
        let truth: Vec<f32> = (0..m * n).map(|at| sum(at / n, at % n) as f32).collect();
        let truth = Tensor::from_data(TensorData::new(truth, [m, n]), &device);
        let turned = |x: &Tensor<Vulkan, 2>| (x.clone().transpose() * 1.0).transpose();
        for (a, b) in [
            (a.clone(), b.clone()),
            (turned(&a), b.clone()),
            (a.clone(), turned(&b)),
            (turned(&a), turned(&b)),
        ] {
            close("product", &CubeKernels::<Exact>::product(a, b), &truth)
                .unwrap_or_else(|wrong| panic!("{m} x {k} x {n}: {wrong}"));
        }
    }
}
