//! Sums over processes, through the host's memory.

use burn_tensor::{DType, Tensor, TensorData, backend::Backend};

use crate::error::{Error, Result};
use crate::parallel::Ranks;

/// Tensors of at least so many numbers travel by themselves, the others packed together.
const LARGE: usize = 1 << 16;

/// Replaces every tensor by its sum over all `ranks`. Large ones are summed in place where the
/// backend's tensors are the host's memory.
///
/// # Errors
/// When the device or the ranks fail.
pub fn sum_over<B: Backend>(tensors: &mut [Tensor<B, 1>], ranks: &dyn Ranks) -> Result<()> {
    let Some(device) = tensors.first().map(Tensor::device) else { return Ok(()) };
    let empty = Tensor::zeros([1], &device);
    let mut packed = Vec::new();
    let mut lengths = Vec::with_capacity(tensors.len());
    for tensor in tensors.iter_mut() {
        // Taken out, so that the memory has one owner.
        let mut data = std::mem::replace(tensor, empty.clone()).into_data();
        let numbers = numbers(&mut data)?;
        lengths.push(numbers.len());
        if numbers.len() < LARGE {
            packed.extend_from_slice(numbers);
        } else {
            ranks.sum(numbers)?;
            *tensor = Tensor::from_data(data, &device);
        }
    }
    ranks.sum(&mut packed)?;
    let mut rest = &packed[..];
    for (tensor, length) in tensors.iter_mut().zip(lengths) {
        if length < LARGE {
            let (numbers, after) = rest.split_at(length);
            *tensor = Tensor::from_data(TensorData::new(numbers.to_vec(), [length]), &device);
            rest = after;
        }
    }
    Ok(())
}

fn numbers(data: &mut TensorData) -> Result<&mut [f32]> {
    let kind = data.dtype;
    let wrong = || Error::Failed(format!("the device returned gradients of the type {kind:?}"));
    if kind != DType::F32 {
        return Err(wrong());
    }
    data.as_mut_slice::<f32>().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;
    use crate::testkit::ranks::threads;

    /// Small and large tensors alike are summed, in their places.
    #[test]
    fn every_tensor_is_summed_in_its_place() {
        let lengths = [3, LARGE + 5, 1, LARGE, 7];
        let sums = threads(3, |ranks| {
            let tensor = |(k, &length): (usize, &usize)| {
                let number = |i: usize| (100 * k + i % 10 + 1000 * ranks.rank()) as f32;
                let numbers: Vec<f32> = (0..length).map(number).collect();
                Tensor::<Flex, 1>::from_data(
                    TensorData::new(numbers, [length]),
                    &Default::default(),
                )
            };
            let mut tensors: Vec<_> = lengths.iter().enumerate().map(tensor).collect();
            // As a gradient is held by somebody else too.
            let held = tensors[1].clone();
            sum_over(&mut tensors, ranks).expect("meets");
            drop(held);
            let read = |t: Tensor<Flex, 1>| t.into_data().into_vec::<f32>().expect("numbers");
            tensors.into_iter().map(read).collect::<Vec<_>>()
        });
        for tensors in sums {
            for (k, (numbers, length)) in tensors.iter().zip(lengths).enumerate() {
                assert_eq!(numbers.len(), length);
                let right = |(i, &x): (usize, &f32)| x == (3 * (100 * k + i % 10) + 3000) as f32;
                assert!(numbers.iter().enumerate().all(right), "tensor {k}");
            }
        }
    }
}
