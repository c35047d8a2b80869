//! Light curves: order, bands, positions, choice of samples, and real transients.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use astropt_core::observation::{Data, Observation};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::fixtures::{columns, modality, shared};

fn curve(time: &[f64], value: &[f32]) -> Observation {
    columns(vec![("time", Data::F64(time.to_vec())), ("value", Data::F32(value.to_vec()))])
}

fn field(observation: &Observation, name: &str) -> Vec<f64> {
    observation.field(name).expect("there").array.data.to_f64().into_owned()
}

const PLAIN: &str = "standardise = 'none'\npositions.affine = 10.0\n";

#[test]
fn a_position_tells_this_time_and_the_next() {
    let modality = modality("time-series", "max_tokens = 8\npositions.periodic = [4.0]");
    let tokens = modality.tokenise(&curve(&[50.0, 51.0, 53.0], &[1.0, 2.0, 4.0]));
    let tokens = tokens.expect("sound").expect("a curve");
    // Phases 0, 1/4 and 3/4; the last is its own next.
    let expected = [0., 1., 1., 0., 1., 0., -1., 0., -1., 0., -1., 0.];
    for (found, expected) in tokens.positions.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{:?}", tokens.positions);
    }
    // Median 2, MAD 1.
    assert_eq!(tokens.values, [-1.0f32, 0.0, 2.0].map(|x| x / 1.4826));
}

#[test]
fn errors_of_a_constant_series_are_of_order_one() {
    let sized = "max_tokens = 8\npositions.affine = 10.0\nmin_samples = 1\n";
    for stretch in ["", "stretch.arcsinh = 2.0\n"] {
        let with_errors = modality("time-series", &format!("{sized}{stretch}error = 'e'"));
        let without = modality("time-series", &format!("{sized}{stretch}"));
        for n in [1, 3] {
            let times: Vec<f64> = (0..n).map(f64::from).collect();
            let errors = &[0.1f32, 0.2, 0.4][..times.len()];
            let mut object = curve(&times, &vec![18.5; times.len()]);
            object.fields.extend(columns(vec![("e", Data::F32(errors.to_vec()))]).fields);
            let tokens = with_errors.tokenise(&object).expect("sound").expect("a curve");
            let middle = errors[errors.len() / 2];
            for (pair, error) in tokens.values.chunks(2).zip(errors) {
                assert!(
                    pair[0].abs() < 1e-4 && (pair[1] - error / middle).abs() < 1e-5,
                    "{pair:?}"
                );
            }
            let back = with_errors.reconstruct(&tokens).expect("sound").expect("fields");
            for (found, expected) in field(&back, "e").iter().zip(errors) {
                assert!((found - f64::from(*expected)).abs() < 1e-5, "{stretch}{n}: {found}");
            }
            assert!(field(&back, "value").iter().all(|x| (x - 18.5).abs() < 1e-5));
            // Without errors, and where there is a deviation, nothing changes.
            let plain = without.tokenise(&object).expect("sound").expect("a curve");
            assert!(plain.affine[0][1] < 1e-4, "{:?}", plain.affine);
        }
        let mut object = curve(&[1.0, 2.0, 3.0], &[18.4, 18.5, 18.6]);
        object.fields.extend(columns(vec![("e", Data::F32(vec![0.5; 3]))]).fields);
        let affine = |modality: &dyn astropt_core::seam::Modality| {
            modality.tokenise(&object).expect("sound").expect("a curve").affine[0]
        };
        assert_eq!(affine(with_errors.as_ref()), affine(without.as_ref()));
        // One point of twelve a thousandth off: a twentieth of the errors is the least.
        let mut values = vec![18.5; 12];
        values[4] = 18.501;
        let mut object = curve(&(0..12).map(f64::from).collect::<Vec<_>>(), &values);
        object.fields.extend(columns(vec![("e", Data::F32(vec![0.1; 12]))]).fields);
        let tokens = with_errors.tokenise(&object).expect("sound").expect("a curve");
        assert!(tokens.values.chunks(2).all(|pair| (pair[1] - 20.0).abs() < 1e-2));
    }
}

#[test]
fn a_band_that_no_series_has_is_told() {
    let table = format!("max_tokens = 8\nband = 'fid'\nbands = [1, 2, 3]\n{PLAIN}");
    assert!(modality("time-series", &table).unseen().is_empty(), "others are refused");
    let modality = modality("time-series", &format!("{table}other_bands = 'drop'"));
    let object = |band: i64| {
        let mut object = curve(&[1.0, 2.0], &[18.0, 19.0]);
        object.fields.extend(columns(vec![("fid", Data::I64(vec![1, band]))]).fields);
        object
    };
    modality.tokenise(&object(1)).expect("sound").expect("a curve");
    let what = |band: i64| ("fid".to_owned(), format!("a sample of the band {band}"));
    assert_eq!(modality.unseen(), [what(2), what(3)]);
    modality.tokenise(&object(3)).expect("sound").expect("a curve");
    assert_eq!(modality.unseen(), [what(2)]);
}

#[test]
fn samples_are_sorted_by_time_then_band_and_bands_are_told() {
    let object = columns(vec![
        ("time", Data::F64(vec![3.0, 1.0, 1.0])),
        ("value", Data::F32(vec![30.0, 12.0, 11.0])),
        ("fid", Data::I64(vec![1, 2, 1])),
    ]);
    let table = format!("max_tokens = 8\nband = 'fid'\nbands = [1, 2]\nnext = false\n{PLAIN}");
    let position = modality("time-series", &table);
    let tokens = position.tokenise(&object).expect("sound").expect("a curve");
    assert_eq!(tokens.values, [11.0, 12.0, 30.0]);
    assert_eq!(tokens.positions, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.2, 1.0, 0.0]);
    let token = modality("time-series", &format!("{table}band_as = 'token'"));
    let tokens = token.tokenise(&object).expect("sound").expect("a curve");
    assert_eq!(tokens.values, [11.0, 1.0, 0.0, 12.0, 0.0, 1.0, 30.0, 1.0, 0.0]);
    for modality in [position, token] {
        let tokens = modality.tokenise(&object).expect("sound").expect("a curve");
        let back = modality.reconstruct(&tokens).expect("sound").expect("fields");
        assert_eq!(field(&back, "fid"), [1.0, 2.0, 1.0]);
        for (found, expected) in field(&back, "time").iter().zip([0.0, 0.0, 2.0]) {
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
    }
    let third = columns(vec![
        ("time", Data::F64(vec![3.0, 1.0, 2.0])),
        ("value", Data::F32(vec![30.0, 12.0, 11.0])),
        ("fid", Data::I64(vec![1, 3, 1])),
    ]);
    let refuse = modality("time-series", &table).tokenise(&third).expect_err("a third band");
    assert!(refuse.to_string().contains("band 3 at sample 1"), "{refuse}");
    let drop = modality("time-series", &format!("{table}other_bands = 'drop'"));
    assert_eq!(drop.tokenise(&third).expect("sound").expect("a curve").values, [11.0, 30.0]);
}

#[test]
fn values_and_errors_are_in_one_unit() {
    let object = |value: Option<&str>, error: Option<&str>| {
        let mut object = columns(vec![
            ("time", Data::F64(vec![1.0, 2.0])),
            ("value", Data::F32(vec![18.0, 19.0])),
            ("sigma", Data::F32(vec![20.0, 30.0])),
        ]);
        for (name, unit) in [("value", value), ("sigma", error)] {
            object.fields.get_mut(name).expect("there").unit = unit.map(str::to_owned);
        }
        object
    };
    let modality = modality("time-series", &format!("max_tokens = 4\nerror = 'sigma'\n{PLAIN}"));
    let error = modality.tokenise(&object(Some("mag"), Some("mmag"))).expect_err("two units");
    let error = error.to_string();
    assert!(error.contains("\"mmag\"") && error.contains("\"mag\""), "{error}");
    for units in [(Some("mag"), Some("MAG")), (Some("mag"), None), (None, Some("mmag"))] {
        assert!(modality.tokenise(&object(units.0, units.1)).is_ok(), "{units:?}");
    }
}

#[test]
fn long_series_are_cut_as_the_recipe_says() {
    let numbers: Vec<f64> = (0..10).map(f64::from).collect();
    let values: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
    let kept = |keep: &str| {
        let table = format!("max_tokens = 4\nkeep = '{keep}'\n{PLAIN}");
        let tokens = modality("time-series", &table).tokenise(&curve(&numbers, &values));
        tokens.expect("sound").expect("a curve").values
    };
    assert_eq!(kept("first"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(kept("last"), [6.0, 7.0, 8.0, 9.0]);
    assert_eq!(kept("strided"), [0.0, 2.0, 5.0, 7.0]);
}

#[test]
fn windows_are_padded_or_left_out() {
    let object = curve(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let tokens = |line: &str| {
        let table = format!("window = 3\nmax_tokens = 4\nnext = false\n{line}\n{PLAIN}");
        let modality = modality("time-series", &table);
        let tokens = modality.tokenise(&object).expect("sound").expect("a curve");
        (modality.detokenise(&tokens).expect("sound").data.to_f64().len(), tokens)
    };
    let (len, padded) = tokens("");
    assert_eq!((len, &padded.values[3..]), (5, [4.0, 5.0, 0.0].as_slice()));
    assert_eq!(padded.positions[3..], [0.3, 0.4, 0.4]);
    assert_eq!(tokens("tail = 'drop'").0, 3);
}

#[test]
fn bad_samples_and_short_series_follow_the_recipe() {
    let object = columns(vec![
        ("time", Data::F64(vec![1.0, 2.0, 3.0, f64::NAN])),
        ("value", Data::F32(vec![1.0, f32::NAN, 3.0, 4.0])),
        ("sigma", Data::F32(vec![0.1, 0.1, 0.1, 0.1])),
        ("quality", Data::I64(vec![0, 0, 128, 0])),
    ]);
    let tokens = |line: &str| {
        let table =
            format!("max_tokens = 4\nquality = 'quality'\nerror = 'sigma'\n{line}\n{PLAIN}");
        modality("time-series", &table).tokenise(&object)
    };
    let error = tokens("").expect_err("bad samples").to_string();
    assert!(error.contains("object-12") && error.contains("3 of 4"), "{error}");
    assert!(error.contains("sample 1") && error.contains("`bad"), "{error}");
    let error = tokens("bad = 'drop'").expect_err("one is left").to_string();
    assert!(error.contains("object-12") && error.contains("1 usable"), "{error}");
    assert_eq!(tokens("bad = 'drop'\nshort = 'absent'").expect("sound"), None);
    let kept = tokens("bad = 'drop'\nquality_bits = 64").expect("sound").expect("a curve");
    assert_eq!(kept.values, [1.0, 0.1, 3.0, 0.1]);
}

#[test]
fn errors_follow_the_stretch_to_first_order() {
    let object = columns(vec![
        ("time", Data::F64(vec![1.0, 2.0])),
        ("value", Data::F64(vec![3.0, -40.0])),
        ("sigma", Data::F64(vec![0.01, 0.02])),
    ]);
    let table = "max_tokens = 4\nerror = 'sigma'\nstretch.arcsinh = 2.0\npositions.affine = 1.0\n\
                 standardise.affine = { offset = 0.5, scale = 0.25 }";
    let modality = modality("time-series", table);
    let tokens = modality.tokenise(&object).expect("sound").expect("a curve");
    let token = |x: f64| ((x / 2.0).asinh() - 0.5) / 0.25;
    assert!((f64::from(tokens.values[0]) - token(3.0)).abs() < 1e-6);
    assert!((f64::from(tokens.values[1]) - (token(3.01) - token(3.0))).abs() < 1e-4);
    let back = modality.reconstruct(&tokens).expect("sound").expect("fields");
    for (found, expected) in field(&back, "sigma").iter().zip([0.01, 0.02]) {
        assert!((found - expected).abs() < 1e-6, "{found}");
    }
}

/// Julian dates keep their fractions of a day.
#[test]
fn times_come_back_to_seconds() {
    let time: Vec<f64> = (0..50).map(|i| 2_460_000.5 + 3.123_456_7 * f64::from(i)).collect();
    let value = vec![1.0; 50];
    for positions in ["positions.affine = 100.0", "positions.periodic = [1.0, 30.0, 1000.0]"] {
        let table = format!("max_tokens = 64\nzero = 2460000.0\n{positions}");
        let modality = modality("time-series", &table);
        let tokens = modality.tokenise(&curve(&time, &value)).expect("sound").expect("a curve");
        let back = modality.reconstruct(&tokens).expect("sound").expect("fields");
        for (found, expected) in field(&back, "time").iter().zip(&time) {
            assert!((found - expected).abs() < 2e-5, "{positions}: {found} and not {expected}");
        }
    }
}

/// Every transient of the CRTS table: time, magnitude and error.
fn transients(path: &Path) -> BTreeMap<String, [Vec<f64>; 3]> {
    let file = std::fs::File::open(path).expect("readable");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let mut all = BTreeMap::<String, [Vec<f64>; 3]>::new();
    for batch in reader.build().expect("Parquet") {
        let batch = batch.expect("rows");
        let column = |name: &str| batch.column_by_name(name).expect(name);
        let number = |name: &str| column(name).as_primitive::<Float64Type>().values().to_vec();
        let [time, value, error] = [number("MJD"), number("Mag"), number("Magerr")];
        let id = |row: usize| match column("ID").as_string_opt::<i32>() {
            Some(ids) => ids.value(row).to_owned(),
            None => column("ID").as_string::<i64>().value(row).to_owned(),
        };
        for row in 0..batch.num_rows() {
            let object = all.entry(id(row)).or_default();
            for (numbers, x) in object.iter_mut().zip([time[row], value[row], error[row]]) {
                numbers.push(x);
            }
        }
    }
    all
}

#[test]
fn transients_of_crts_come_back() {
    let folder = "data/lightcurves/crts_transients_astronomaly/lightcurves.parquet";
    let Some(path) = shared(folder) else { return };
    let all = transients(&path);
    assert_eq!(all.len(), 500);
    let modality = modality(
        "time-series",
        "max_tokens = 512\nzero = 53000.0\nerror = 'error'\nunit = 'mag'\nshort = 'absent'\n\
         positions.periodic = [1.0, 30.0, 365.25, 10000.0]",
    );
    let mut read = 0;
    for (id, [time, value, error]) in all {
        let mut rows: Vec<_> = (0..time.len()).map(|i| (time[i], value[i], error[i])).collect();
        let object = columns(vec![
            ("time", Data::F64(time)),
            ("value", Data::F64(value)),
            ("error", Data::F64(error)),
        ]);
        let Some(tokens) = modality.tokenise(&object).expect("sound") else {
            assert_eq!(rows.len(), 1, "{id}");
            continue;
        };
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let back = modality.reconstruct(&tokens).expect("sound").expect("fields");
        let [time, value, error] = ["time", "value", "error"].map(|name| field(&back, name));
        assert_eq!(time.len(), rows.len(), "{id}");
        for (i, row) in rows.iter().enumerate() {
            let off = [(time[i], row.0, 1e-5), (value[i], row.1, 1e-5), (error[i], row.2, 1e-6)];
            for (found, expected, within) in off {
                assert!((found - expected).abs() < within, "{id}: {found} and not {expected}");
            }
        }
        assert!(modality.preview(&tokens).expect("sound").is_some());
        read += 1;
    }
    assert!(read > 450, "{read}");
}
