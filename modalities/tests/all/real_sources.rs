//! Tables, arrays and joins of real surveys, against what pandas and NumPy say of them.

use std::path::Path;

use astropt_core::observation::{Data, Label, Observation};
use astropt_core::seam::Source;
use astropt_core::testkit;

use crate::fixtures::{open, shared};

fn doubles(object: &Observation, field: &str) -> Vec<f64> {
    match &object.fields[field].array.data {
        Data::F64(numbers) => numbers.clone(),
        other => other.to_f32().iter().map(|&x| x.into()).collect(),
    }
}

fn opened(kind: &str, table: &str, root: &Path) -> Box<dyn Source> {
    testkit::source::check(kind, table, root).expect("conforms");
    open(kind, table, root).expect("opens")
}

#[test]
fn crts_light_curves_are_those_of_pandas() {
    let Some(root) = shared("data/lightcurves/crts_transients_astronomaly") else { return };
    let table = "path = 'lightcurves.parquet'\nobject = 'ID'\nsort = 'time'\n\
                 fields.time = { column = 'MJD', unit = 'd' }\n\
                 fields.value = { column = 'Mag', unit = 'mag' }\n\
                 fields.error = { column = 'Magerr', unit = 'mag' }\n\
                 labels = 'labels.csv'\nname_column = 'ID'";
    let source = opened("table", table, &root);
    assert_eq!((source.len(), source.groups()), (500, None));
    let lengths: Vec<usize> =
        (0..500).map(|k| source.read(k).expect("readable").fields["time"].array.shape[0]).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 53_654);
    assert_eq!((lengths.iter().max(), lengths.iter().min()), (Some(&472), Some(&1)));
    for (index, id, len, time, value, error, sum) in [
        (
            0,
            "TranID1011080040044131101",
            41,
            53_637.336_349_062_6,
            19.9716,
            0.345_007_936_905_988,
            825.0617,
        ),
        (
            1,
            "TranID1010070120014131116",
            71,
            53_626.258_729_653,
            19.6187,
            0.350_514_019_201_562_05,
            1346.3458,
        ),
    ] {
        let object = source.read(index).expect("readable");
        let (times, values) = (doubles(&object, "time"), doubles(&object, "value"));
        assert_eq!((object.id.as_str(), times.len()), (id, len));
        assert_eq!((times[0], values[0], doubles(&object, "error")[len - 1]), (time, value, error));
        assert!((values.iter().sum::<f64>() - sum).abs() < 1e-9);
        assert!(times.is_sorted());
    }
    assert_eq!(source.labels(0)["Classification"], Label::Text("SN".into()));
    assert_eq!(source.labels(1)["Classification"], Label::Text("CV".into()));
    let agn = (0..500).filter(|&k| source.labels(k)["Classification"] == Label::Text("AGN".into()));
    assert_eq!(agn.count(), 29);
}

#[test]
fn miles_spectra_are_those_of_numpy() {
    let Some(root) = shared("data/spectra/miles_stars_dev") else { return };
    let table = "path = 'spectra.npz'\nids = 'id'\nshared = ['wavelength']\n\
                 fields.flux = 'flux'\n\
                 fields.wavelength = { array = 'wavelength', unit = 'Angstrom' }\n\
                 labels = 'labels.csv'\nname_column = 'id'";
    let source = opened("npz", table, &root);
    assert_eq!((source.len(), source.id(0), source.id(2)), (196, "505".into(), "10".into()));
    let star = source.read(2).expect("readable");
    let flux = doubles(&star, "flux");
    assert_eq!((flux.len(), flux[100] as f32), (4300, 0.346_894_8));
    assert!((flux.iter().sum::<f64>() - 3_835.072_363_644_838_3).abs() < 1e-6);
    assert_eq!(star.fields["wavelength"].unit.as_deref(), Some("Angstrom"));
    assert_eq!(doubles(&star, "wavelength")[4299] as f32, 7409.6);
    assert_eq!(star.labels["teff"], Label::Number(4967.0));
    assert_eq!(star.labels["star"], Label::Text("BD+130013".into()));
    // The table has the order of the arrays.
    let ordered = table.replace("ids = 'id'", "labels_in_order = true");
    let ordered = open("npz", &ordered, &root).expect("opens");
    assert_eq!((ordered.id(2), ordered.labels(2)), (source.id(2), source.labels(2)));
}

const FINK: &str = "path = ''\nrequire = 'all'\n\
    [parts.cutouts]\nkind = 'npz'\npath = 'cutouts.npz'\nids = 'candid'\n\
    fields.image = { array = 'cutouts', axes = 'chw' }\n\
    labels = 'alerts.csv'\nname_column = 'candid'\n\
    [parts.curves]\nkind = 'table'\npath = 'lightcurves.parquet'\nobject = 'alert_index'\n\
    sort = 'time'\n\
    fields.time = { column = 'jd', unit = 'd' }\n\
    fields.value = { column = 'magpsf', unit = 'mag' }\n\
    fields.band = { column = 'fid', codes = ['1', '2', '3'] }\n\
    fields.sign = { column = 'isdiffpos', codes = ['f', 't', '0', '1'], missing = -1 }\n\
    [parts.alerts]\nkind = 'table'\npath = 'alerts.csv'\nobject = 'index'\nlayout = 'wide'\n\
    fields.rb = 'rb'\n\
    [match.cutouts]\nlabel = 'index'\n";

#[test]
fn fink_alerts_are_cutouts_light_curves_and_scalars_of_one_object() {
    let Some(root) = shared("data/multimodal/fink_ztf_alerts_dev") else { return };
    let source = opened("join", FINK, &root);
    assert_eq!(source.len(), 196);
    let (mut nans, mut missing, mut rows) = (0, 0, 0);
    for index in 0..196 {
        let object = source.read(index).expect("readable");
        let image = &object.fields["image"].array;
        assert_eq!(image.shape, [63, 63, 3]);
        nans += image.data.to_f32().iter().filter(|x| x.is_nan()).count();
        let values = doubles(&object, "value");
        rows += values.len();
        missing += values.iter().filter(|x| x.is_nan()).count();
    }
    assert_eq!((nans, rows, missing), (27_060, 5350, 2785));
    let place = |id: &str| (0..196).find(|&k| source.id(k) == id).expect("there");
    let two = source.read(place("2")).expect("readable");
    let pixels = two.fields["image"].array.data.to_f32().into_owned();
    for (plane, expected) in
        [839_143.649_810_79, 837_498.575_653_08, 1_724.890_042_76].iter().enumerate()
    {
        let of_plane = pixels.iter().skip(plane).step_by(3);
        let seen: Vec<f64> = of_plane.filter(|x| !x.is_nan()).map(|&x| x.into()).collect();
        assert_eq!(seen.len(), 63 * 63 - 144);
        assert!((seen.iter().sum::<f64>() - expected).abs() < 1e-4);
    }
    let three = source.read(place("3")).expect("readable");
    let pixels = three.fields["image"].array.data.to_f32().into_owned();
    assert_eq!((pixels[(5 * 63 + 7) * 3 + 1], pixels[62 * 63 * 3 + 2]), (245.540_54, 1.754_370_1));
    let times = doubles(&three, "time");
    assert_eq!((times.len(), times[0]), (24, 2_460_811.884_513_9));
    assert_eq!(doubles(&three, "value").iter().filter(|x| x.is_nan()).count(), 23);
    let bands = &three.fields["band"].array.data;
    assert!(matches!(bands, Data::I64(v) if v[..6] == [1, 0, 0, 1, 0, 1]), "{bands:?}");
    let signs = &three.fields["sign"].array.data;
    assert!(matches!(signs, Data::I64(v) if v[..6] == [-1; 6]), "{signs:?}");
    assert_eq!(doubles(&three, "rb"), [0.579_999_983_310_699_5]);
    assert!(three.fields["rb"].array.shape.is_empty());
    assert_eq!(three.labels["cdsxmatch"], Label::Text("Unknown".into()));
}

#[test]
fn sdss_images_meet_their_spectra() {
    let Some(root) = shared("data/multimodal/sdss_legacy_image_spectrum_pairs_10") else { return };
    let table = "path = ''\n\
        [parts.images]\nkind = 'image-folder'\npath = 'images'\n\
        labels = '../labels.csv'\nname_column = 'objid'\n\
        [parts.spectra]\nkind = 'fits'\npath = 'spectra'\n\
        labels = '../labels.csv'\nname_column = 'spectrum'\n\
        fields.flux = { hdu = 1, column = 'flux' }\n\
        fields.wavelength = { hdu = 1, column = 'loglam', transform = 'pow10' }\n\
        [match.spectra]\nlabel = 'image'\nstrip_prefix = 'images/'\nstrip_suffix = '.jpeg'\n";
    let source = opened("join", table, &root);
    assert_eq!(source.len(), 10);
    let pair = (0..10).find(|&k| source.id(k) == "1237650795683184714").expect("there");
    let pair = source.read(pair).expect("readable");
    assert_eq!(pair.fields["image"].array.shape, [256, 256, 3]);
    assert_eq!(pair.labels["z"], Label::Number(0.067_405_633_628_368_38));
    let (flux, wavelength) = (doubles(&pair, "flux"), doubles(&pair, "wavelength"));
    assert_eq!(flux.len(), wavelength.len());
    assert!(flux.len() > 3700 && wavelength[0] > 3700.0 && wavelength.is_sorted());
}
