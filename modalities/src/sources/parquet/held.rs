//! What decoded rows hold in memory. Texts and bytes are views into the pages they were read
//! from, and a page may be many times as large as the rows that are wanted of it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::ByteViewType;
use arrow_array::{Array as _, ArrayRef, GenericByteViewArray, RecordBatch, StructArray};

/// Bytes that batches hold: a buffer that several of them share counts once.
#[derive(Debug, Default)]
pub(super) struct Weight {
    seen: HashSet<usize>,
    pub(super) bytes: usize,
}

impl Weight {
    /// Counts what `batch` adds to the batches before, which must still be there.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        let mut left: Vec<_> = batch.columns().iter().map(|column| column.to_data()).collect();
        while let Some(array) = left.pop() {
            let nulls = array.nulls().map(|nulls| nulls.buffer());
            for buffer in array.buffers().iter().chain(nulls) {
                if self.seen.insert(buffer.data_ptr().as_ptr() as usize) {
                    self.bytes = self.bytes.saturating_add(buffer.capacity());
                }
            }
            left.extend_from_slice(array.child_data());
        }
    }
}

/// The same rows; views that hold on to more than twice the bytes they show have those copied
/// out of their pages.
pub(super) fn lean(batch: RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(lean_column).collect();
    RecordBatch::try_new(batch.schema(), columns).unwrap_or(batch)
}

fn lean_column(column: &ArrayRef) -> ArrayRef {
    let copied = match (column.as_binary_view_opt(), column.as_string_view_opt()) {
        (Some(views), _) => lean_views(views),
        (_, Some(views)) => lean_views(views),
        _ => column.as_struct_opt().and_then(lean_struct),
    };
    copied.unwrap_or_else(|| column.clone())
}

fn lean_struct(parts: &StructArray) -> Option<ArrayRef> {
    let columns = parts.columns().iter().map(lean_column).collect();
    let (fields, nulls) = (parts.fields().clone(), parts.nulls().cloned());
    let parts = StructArray::try_new_with_length(fields, columns, nulls, parts.len()).ok()?;
    Some(Arc::new(parts))
}

fn lean_views<T: ByteViewType>(views: &GenericByteViewArray<T>) -> Option<ArrayRef> {
    let held: usize = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
    // A value that a dictionary repeats is shown more often than it is held.
    let shown = views.total_buffer_bytes_used();
    (shown.saturating_mul(2) < held).then(|| Arc::new(views.gc()) as ArrayRef)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::BinaryViewBuilder;
    use arrow_schema::{DataType, Field};

    const ROWS: usize = 16;
    const VALUE: usize = 4096;

    /// Structs of bytes, as pictures are, all in one buffer.
    fn pictures() -> RecordBatch {
        let mut builder = BinaryViewBuilder::new().with_fixed_block_size((ROWS * VALUE) as u32);
        (0..ROWS).for_each(|k| builder.append_value(vec![k as u8; VALUE]));
        let bytes: ArrayRef = Arc::new(builder.finish());
        let field = Arc::new(Field::new("bytes", DataType::BinaryView, true));
        let parts: ArrayRef = Arc::new(StructArray::from(vec![(field, bytes)]));
        RecordBatch::try_from_iter([("image", parts)]).expect("a batch")
    }

    fn weight(batches: &[RecordBatch]) -> usize {
        let mut weight = Weight::default();
        batches.iter().for_each(|batch| weight.add(batch));
        weight.bytes
    }

    #[test]
    fn a_page_that_batches_share_counts_once() {
        let all = pictures();
        let batches: Vec<_> = (0..ROWS).map(|row| all.slice(row, 1)).collect();
        let each: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        assert!(each > ROWS * ROWS * VALUE, "what was counted: {each}");
        assert_eq!(weight(&batches), weight(std::slice::from_ref(&all)));
        assert!((ROWS * VALUE..2 * ROWS * VALUE).contains(&weight(&batches)));
    }

    #[test]
    fn a_few_rows_of_a_large_page_let_go_of_it() {
        let all = pictures();
        assert_eq!(weight(&[lean(all.clone())]), weight(std::slice::from_ref(&all)));
        let few = all.slice(3, 2);
        let copied = lean(few.clone());
        assert_eq!(copied, few);
        assert!((2 * VALUE..4 * VALUE).contains(&weight(&[copied])));
    }
}
