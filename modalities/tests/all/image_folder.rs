//! The source `image-folder` on files as people have them.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Float64Array, Int64Array, RecordBatch, StringArray};
use astropt_core::Error;
use astropt_core::observation::{Data, Label};
use astropt_modalities::sources::decode::decode;
use image::{ExtendedColorType, ImageFormat};
use tempfile::TempDir;

use crate::fixtures::{bytes, open, shared};

/// A folder with small PNG files of these names.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        let pixels = bytes(4 * 4 * 3);
        let format = ImageFormat::Png;
        image::save_buffer_with_format(path, &pixels, 4, 4, ExtendedColorType::Rgb8, format)
            .expect("written");
    }
    folder
}

fn refusal(table: &str, root: &Path) -> String {
    open("image-folder", table, root).map(drop).expect_err(table).to_string()
}

#[test]
fn objects_come_in_the_order_of_their_paths() {
    let folder = folder(&["b/x.png", "a/y.PNG", "c.png", ".hidden.png"]);
    fs::write(folder.path().join("notes.txt"), "no image").expect("written");
    let source = open("image-folder", "path = ''", folder.path()).expect("opens");
    let ids: Vec<_> = (0..source.len()).map(|i| source.id(i)).collect();
    assert_eq!(ids, ["a/y", "b/x", "c"]);
    let object = source.read(1).expect("readable");
    assert_eq!(object.fields["image"].array.shape, [4, 4, 3]);
    assert_eq!(object.fields["image"].array.data, Data::U8(bytes(48)));
}

/// An id does not depend on which other files there are.
#[test]
fn an_id_is_the_path_without_its_extension() {
    for (names, ids) in [
        (["a/1.png", "b/1.png"], ["a/1", "b/1"]),
        (["1.png", "1.tif.png"], ["1", "1.tif"]),
        (["a/1.png", "b/2.png"], ["a/1", "b/2"]),
    ] {
        let folder = folder(&names);
        let source = open("image-folder", "path = '.'", folder.path()).expect("opens");
        assert_eq!([source.id(0), source.id(1)], ids);
    }
    let twins = folder(&["1.jpg", "1.png"]);
    let error = refusal("path = '.'", twins.path());
    assert!(error.contains("1.png") && error.contains("1.jpg"), "{error}");
}

/// A column that only happens to hold numbers like file names is not taken for names, and two
/// that name different images are not chosen between.
#[test]
fn labels_are_never_joined_on_a_guess() {
    let folder = folder(&["1.png", "2.png", "3.png"]);
    let with = |csv: &str| {
        fs::write(folder.path().join("labels.csv"), csv).expect("written");
        open("image-folder", "path = ''", folder.path())
    };
    let error = |csv: &str| with(csv).map(drop).expect_err(csv).to_string();
    assert!(error("name,T\nfoo,1\n").contains("none of its 1 rows"));
    let tie = error("file,image,T\n1,2,5\n2,3,6\n3,1,7\n");
    assert!(tie.contains("\"file\"") && tie.contains("\"image\""), "{tie}");
    let source = with("row,image,T\n1,3,5\n2,2,6\n3,1,7\n").expect("opens");
    assert_eq!(source.labels(0)["T"], Label::Number(7.0));
}

#[test]
fn rows_that_name_several_images_are_no_rows_that_name_none() {
    let folder = folder(&["x/1.png", "y/1.png", "y/2.png"]);
    fs::write(folder.path().join("labels.csv"), "name,z\n1,0.5\n1.png,0.7\n").expect("written");
    let error = open("image-folder", "path = ''", folder.path()).map(drop).expect_err("whose");
    let error = error.to_string();
    assert!(error.contains("none of its 2 rows names one object"), "{error}");
    assert!(error.contains("2 name several alike, such as \"1\""), "{error}");
    assert!(error.contains("with their folders"), "{error}");
    fs::write(folder.path().join("labels.csv"), "name,z\n1,0.5\ny/1,0.7\n").expect("written");
    let source = open("image-folder", "path = ''", folder.path()).expect("opens");
    assert!(source.labels(0).is_empty());
    assert_eq!(source.labels(1)["z"], Label::Number(0.7));
}

#[test]
fn packed_images_are_not_passed_over_in_silence() {
    let folder = folder(&[]);
    for name in ["a.png.bz2", "b.PNG.gz", "c.txt.bz2"] {
        fs::write(folder.path().join(name), "packed").expect("written");
    }
    let error = open("image-folder", "path = ''", folder.path()).map(drop).expect_err("none");
    let error = error.to_string();
    assert!(error.contains("no image in this folder") && error.contains("2 file(s)"), "{error}");
    assert!(error.contains(".png.bz2") || error.contains(".PNG.gz"), "{error}");
    assert!(error.contains("unpack them, with bunzip2"), "{error}");
}

#[test]
fn labels_are_found_by_whatever_column_names_the_images() {
    let folder = folder(&["img/a.png", "img/b.png", "img/587722981741363294.png"]);
    let csv = "note,file,mag,class\n\
               a,img/a.png,17.5,E\n\
               x,img/b.png,nan,\n\
               ,587722981741363294,-1,S\n\
               ,absent,3,S\n\
               ,img/a.png,99,late row\n";
    fs::write(folder.path().join("labels.csv"), csv).expect("written");
    let source = open("image-folder", "path = ''", folder.path()).expect("opens");
    let labels: Vec<_> = (0..3).map(|i| source.labels(i)).collect();
    // Two rows name the image: what they disagree on is unknown.
    assert!(labels[1].is_empty(), "{:?}", labels[1]);
    assert_eq!(labels[2].keys().collect::<Vec<_>>(), ["note"]);
    assert_eq!(labels[0]["mag"], Label::Number(-1.0));
    assert_eq!(source.read(1).expect("readable").labels, labels[1]);
}

/// The last part of a path names no file of another folder, and no row that names an object less
/// fully disputes one that names it whole.
#[test]
fn labels_of_other_folders_are_not_taken() {
    let folder = folder(&["tile1/1.png", "tile1/2.png", "tile1/3.png"]);
    let csv = "file,z\ntile2/1.png,9\n2,9\ntile1/2.png,2\n2.png,8\n/data/tile1/3.png,3\n3,7\n";
    fs::write(folder.path().join("labels.csv"), csv).expect("written");
    let source = open("image-folder", "path = ''", folder.path()).expect("opens");
    assert!(source.labels(0).is_empty(), "{:?}", source.labels(0));
    assert_eq!(source.labels(1)["z"], Label::Number(2.0));
    assert_eq!(source.labels(2)["z"], Label::Number(3.0));
    // Paths that start one folder up, of which one is this.
    let csv = "file,z\ntile2/1.png,9\ntile1/1.png,1\n";
    fs::write(folder.path().join("tile1/labels.csv"), csv).expect("written");
    let source = open("image-folder", "path = 'tile1'", folder.path()).expect("opens");
    assert_eq!(source.labels(0)["z"], Label::Number(1.0));
    // Where rows name the data's folder, those of others are of other files; where none does, it may
    // have been given another name.
    for (csv, known) in [
        ("file,z\ntile1/1.png,1\ntile2/2.png,9\n", false),
        ("file,z\ntile2/1.png,9\ntile2/2.png,9\n", true),
    ] {
        fs::write(folder.path().join("tile1/labels.csv"), csv).expect("written");
        let source = open("image-folder", "path = 'tile1'", folder.path()).expect("opens");
        assert_eq!(source.labels(1).contains_key("z"), known, "{csv}");
    }
}

#[test]
fn labels_may_be_a_parquet_table() {
    let folder = folder(&["11.png", "12.png"]);
    let batch = RecordBatch::try_from_iter([
        ("objid", Arc::new(Int64Array::from(vec![12, 11])) as arrow_array::ArrayRef),
        ("z", Arc::new(Float64Array::from(vec![Some(0.1), None])) as _),
        ("type", Arc::new(StringArray::from(vec!["GALAXY", "7"])) as _),
    ])
    .expect("a table");
    let file = File::create(folder.path().join("table.parquet")).expect("a file");
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
    let source = open("image-folder", "path = ''\nlabels = 'table.parquet'", folder.path());
    let source = source.expect("opens");
    assert_eq!(source.labels(1)["z"], Label::Number(0.1));
    assert!(!source.labels(0).contains_key("z"));
    assert_eq!(source.labels(0)["type"], Label::Text("7".into()));
}

#[test]
fn a_list_file_names_images_in_its_own_order() {
    let folder = folder(&["img/a.png", "img/b.png"]);
    let list = folder.path().join("some.txt");
    fs::write(&list, "# two\nimg/b.png\n\n  img/a.png\n").expect("written");
    let source = open("image-folder", "path = 'some.txt'", folder.path()).expect("opens");
    assert_eq!([source.id(0), source.id(1)], ["img/b", "img/a"]);
    for (text, words) in [
        ("img/a.png\nimg/c.png\n", "1 of 2 listed files do not exist"),
        ("img/a.png\nimg/a.png\n", "line 2"),
        ("img/a.gif\n", "line 1"),
        ("# none\n", "empty"),
    ] {
        fs::write(&list, text).expect("written");
        let error = refusal("path = 'some.txt'", folder.path());
        assert!(error.contains(words) && error.contains("some.txt"), "{error}");
    }
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let folder = folder(&["a.png"]);
    let root = folder.path();
    fs::create_dir(root.join("empty")).expect("a folder");
    fs::write(root.join("other.csv"), "name,x\nzz.jpg,1\n").expect("written");
    fs::write(root.join("torn.csv"), "name,x\na.png,1,2\n").expect("written");
    for (table, words) in [
        ("path = 'nowhere'", "check the path"),
        ("path = 'empty'", "no image in this folder"),
        ("path = 'other.csv'", "give the folder"),
        ("path = ''\nlabels = 'absent.csv'", "no such table"),
        ("path = ''\nlabels = 'other.csv'", "\"zz.jpg\", and the first object is \"a.png\""),
        ("path = ''\nlabels = 'other.csv'\nname_column = 'y'", "it has name, x"),
        ("path = ''\nlabels = 'torn.csv'", "line 2"),
        ("path = ''\nname_column = 'y'", "`labels`"),
    ] {
        let error = refusal(table, root);
        assert!(error.contains(words), "{table}: {error}");
    }
}

#[test]
fn pictures_of_every_kind_keep_their_numbers() {
    use ExtendedColorType::{L8, L16, La8, Rgb16, Rgba8};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.png");
    let mut opaque = bytes(3 * 2 * 4);
    opaque.iter_mut().skip(3).step_by(4).for_each(|alpha| *alpha = 255);
    for (kind, channels, width, expected) in [
        (L8, 1, 1, Ok([2, 3, 1])),
        (L16, 1, 2, Ok([2, 3, 1])),
        (Rgb16, 3, 2, Ok([2, 3, 3])),
        (Rgba8, 4, 1, Ok([2, 3, 3])),
        (La8, 2, 1, Err("transparent")),
    ] {
        let pixels = if kind == Rgba8 { opaque.clone() } else { bytes(6 * channels * width) };
        image::save_buffer_with_format(&path, &pixels, 3, 2, kind, ImageFormat::Png)
            .expect("written");
        let picture = decode(&fs::read(&path).expect("readable"));
        match expected {
            Ok(shape) => assert_eq!(picture.expect("a picture").shape, shape),
            Err(words) => assert!(picture.expect_err("refused").contains(words)),
        }
    }
}

#[test]
fn floating_point_tiff_keeps_its_fluxes() {
    use tiff::encoder::{TiffEncoder, colortype};
    let flux: Vec<f32> = (0..4 * 5 * 3).map(|x| x as f32 * 0.1 - 2.0).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).expect("an encoder");
    encoder.write_image::<colortype::RGB32Float>(5, 4, &flux).expect("written");
    let picture = decode(file.get_ref()).expect("a picture");
    assert_eq!((picture.shape, picture.data), (vec![4, 5, 3], Data::F32(flux.clone())));
    let cut = decode(&file.get_ref()[..60]).expect_err("cut short");
    assert!(cut.contains("cut short"), "{cut}");
    // A smaller version beside the picture is none of its own; a second picture is.
    let again = |reduced: u32| {
        let mut file = std::io::Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).expect("an encoder");
        encoder.write_image::<colortype::RGB32Float>(5, 4, &flux).expect("written");
        let mut second = encoder.new_image::<colortype::Gray8>(2, 2).expect("an encoder");
        let kind = tiff::tags::Tag::NewSubfileType;
        second.encoder().write_tag(kind, reduced).expect("written");
        second.write_data(&[1, 2, 3, 4]).expect("written");
        decode(file.get_ref())
    };
    assert_eq!(again(1).expect("a picture").shape, [4, 5, 3]);
    let several = again(0).expect_err("two pictures");
    assert!(several.contains("several pictures"), "{several}");
}

#[test]
fn damaged_pictures_are_errors_that_name_the_file() {
    let folder = folder(&["good.png"]);
    let good = fs::read(folder.path().join("good.png")).expect("readable");
    for (content, words) in [
        (&b""[..], "empty"),
        (b"<html>not found</html>", "not a JPEG, PNG or TIFF"),
        (&good[..good.len() - 30], "cut short"),
    ] {
        fs::write(folder.path().join("bad.png"), content).expect("written");
        let source = open("image-folder", "path = ''", folder.path()).expect("opens");
        let error = source.read(0).expect_err("damaged");
        assert!(matches!(error, Error::File { .. }));
        let text = error.to_string();
        assert!(text.contains("bad.png") && text.contains(words), "{text}");
        assert!(source.read(1).is_ok());
    }
}

#[test]
fn a_picture_that_claims_to_be_huge_is_refused() {
    // A PNG of 100,000 x 100,000 pixels that ends after its header.
    let mut png =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\x08\x02\0\0\0".to_vec();
    png.extend(0x2730_9c9f_u32.to_be_bytes());
    png.extend(b"\0\0\0\0IDAT");
    png.extend(0x35af_061e_u32.to_be_bytes());
    let error = decode(&png).expect_err("refused");
    assert!(error.contains("claims 100000 x 100000 pixels"), "{error}");
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error() {
    let Some(root) = shared("data/galaxies/efigi_trainval_88px/images") else { return };
    let jpeg = fs::read(root.join("PGC0000212.jpg")).expect("readable");
    assert_eq!(decode(&jpeg).expect("whole").shape, [88, 88, 3]);
    for cut in (1..jpeg.len() - 2).step_by(7).chain([jpeg.len() - 40, jpeg.len() - 10]) {
        assert!(decode(&jpeg[..cut]).is_err(), "cut at {cut} of {}", jpeg.len());
    }
    // Bytes changed at random give an error or a picture, never a panic.
    for seed in 0..300usize {
        let mut broken = jpeg.clone();
        for k in 0..3 {
            let place = (seed * 7919 + k * 104_729) % broken.len();
            broken[place] ^= 1 << (seed % 8);
        }
        let _ = decode(&broken);
    }
}

#[test]
fn real_galaxies_have_their_labels() {
    let Some(root) = shared("data/galaxies") else { return };
    let source = open("image-folder", "path = 'efigi_trainval_88px'", &root).expect("opens");
    assert_eq!(source.len(), 3570);
    assert_eq!(source.id(0), "images/PGC0000212");
    let labels = source.labels(0);
    assert_eq!(labels["T"], Label::Number(1.0));
    assert_eq!(labels["split"], Label::Text("train".into()));
    assert!(!labels.contains_key("rc3_ra"));
}
