//! The survey as a whole: purity, crops, labels, photometry.

use astropt_core::observation::Label;

use super::*;

fn survey(table: &str) -> Synthetic {
    let config: SyntheticConfig = toml::from_str(table).expect(table);
    config.check().expect(table);
    Synthetic(config)
}

fn fluxes(survey: &Synthetic, index: usize) -> Vec<f32> {
    match &survey.read(index).expect("a galaxy").fields["image"].array.data {
        Data::F32(fluxes) => fluxes.clone(),
        other => panic!("{other:?}"),
    }
}

fn number(labels: &Labels, name: &str) -> f64 {
    labels.get(name).and_then(Label::number).expect(name)
}

#[test]
fn an_object_depends_on_seed_and_index_alone() {
    let few = survey("objects = 5\nsize = 48\nseed = 7");
    let many = survey("objects = 90000000\nsize = 48\nseed = 7");
    let other = survey("objects = 5\nsize = 48\nseed = 8");
    for index in [4, 0, 2] {
        let object = few.read(index).expect("a galaxy");
        assert_eq!(object, many.read(index).expect("a galaxy"));
        assert_eq!(object.labels, few.labels(index));
        assert_ne!(object, other.read(index).expect("a galaxy"));
    }
    assert_ne!(few.read(0).expect("one").fields, few.read(1).expect("another").fields);
}

#[test]
fn a_smaller_stamp_is_the_middle_of_a_larger_one() {
    let large =
        survey("objects = 40\nsize = 200\nseed = 3\npixels = 'flux'\nartefacts = 0.3\nstars = 3");
    for side in [64, 33] {
        let small = Synthetic(SyntheticConfig { size: side, ..large.0.clone() });
        for index in 0..40 {
            let (whole, part) = (fluxes(&large, index), fluxes(&small, index));
            let first = 200 / 2 - side / 2;
            for y in 0..side {
                for x in 0..3 * side {
                    let (a, b) = (whole[(first + y) * 600 + 3 * first + x], part[y * 3 * side + x]);
                    assert!((a - b).abs() < 2e-4 * (1.0 + a.abs()), "{index} {x} {y}: {a} {b}");
                }
            }
            assert_eq!(large.labels(index), small.labels(index));
        }
    }
}

/// The units of the JPEGs lie alike too; only at the rim colours are interpolated from other
/// neighbours.
#[test]
fn a_smaller_picture_is_the_middle_of_a_larger_one() {
    let large = survey("objects = 10\nsize = 192\nseed = 3");
    let bytes = |survey: &Synthetic, index| match survey.read(index).expect("one").fields["image"]
        .array
        .data
    {
        Data::U8(ref bytes) => bytes.clone(),
        ref other => panic!("{other:?}"),
    };
    for side in [96, 65] {
        let small = Synthetic(SyntheticConfig { size: side, ..large.0.clone() });
        for index in 0..10 {
            let middle = middle(&bytes(&large, index), 192, side);
            let differ = bytes(&small, index).iter().zip(&middle).filter(|(a, b)| a != b).count();
            assert!(differ < middle.len() / 20, "{index}: {differ} of {}", middle.len());
        }
    }
}

#[test]
fn units_are_those_of_labels_that_there_are() {
    let survey = survey("objects = 200");
    let units = survey.label_units();
    let labels: Vec<_> = (0..200).flat_map(|index| survey.labels(index)).collect();
    for (name, unit) in &units {
        let label = labels.iter().find(|(label, _)| label == name).map(|(_, label)| label);
        assert!(label.is_some_and(|label| label.number().is_some()), "{name} in {unit}");
    }
    assert_eq!((units.len(), units["half_light_radius"].as_str()), (16, "arcsec"));
}

#[test]
fn labels_are_known_and_plausible() {
    let survey = survey("objects = 3000");
    let mut north = 0;
    for index in 0..3000 {
        let labels = survey.labels(index);
        for (name, low, high) in [
            ("mag_g", 13.8, 20.5),
            ("mag_r", 13.9, 17.9),
            ("mag_z", 12.5, 17.9),
            ("g_r", 0.2, 1.9),
            ("r_z", 0.1, 1.2),
            ("abs_mag_g", -24.0, -12.0),
            ("abs_mag_r", -25.0, -12.0),
            ("abs_mag_z", -25.0, -12.0),
            ("redshift", 5e-4, 0.45),
            ("log_stellar_mass", 8.4, 12.1),
            ("log_ssfr", -13.5, -8.2),
            ("smooth", 0.0, 1.0),
            ("disc", 0.0, 1.0),
            ("artefact", 0.0, 1.0),
            ("edge_on", 0.0, 1.0),
            ("tight_spiral", 0.0, 1.0),
            ("bulge_fraction", 0.0, 1.0),
            ("bar_fraction", 0.0, 0.4),
            ("half_light_radius", 1.0, 120.0),
            ("inclination", 0.0, 90.0),
            ("position_angle", 0.0, 180.0),
            ("ra", 0.0, 360.0),
            ("dec", -18.0, 84.0),
        ] {
            let value = number(&labels, name);
            assert!((low..=high).contains(&value), "object {index}: {name} is {value}");
        }
        let said: f64 = ["smooth", "disc", "artefact"].map(|n| number(&labels, n)).iter().sum();
        assert!((said - 1.0).abs() < 1e-9);
        north += usize::from(labels["telescope"] == Label::Text("north".into()));
    }
    assert!((800..1300).contains(&north), "{north}");
}

#[test]
fn colours_and_shapes_tell_star_formation() {
    let survey = survey("objects = 4000");
    let labels: Vec<_> = (0..4000).map(|index| survey.labels(index)).collect();
    let mean = |name: &str, of: &dyn Fn(&Labels) -> bool| {
        let values: Vec<_> = labels.iter().filter(|l| of(l)).map(|l| number(l, name)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let forming = |labels: &Labels| number(labels, "log_ssfr") > -10.6;
    let quiescent = |labels: &Labels| number(labels, "log_ssfr") < -11.3;
    assert!(mean("g_r", &quiescent) > mean("g_r", &forming) + 0.25);
    assert!(mean("disc", &forming) > mean("disc", &quiescent) + 0.2);
    assert!(mean("bulge_fraction", &quiescent) > mean("bulge_fraction", &forming) + 0.3);
    let edge = |labels: &Labels| number(labels, "inclination") > 80.0;
    let face = |labels: &Labels| number(labels, "inclination") < 60.0;
    assert!(mean("edge_on", &edge) > 0.4 && mean("edge_on", &face) < 0.05);
    // Counts that grow as 10^(0.6 m) have their median 0.5 mag above the limit; that small
    // galaxies are left out takes faint ones.
    let mut magnitudes: Vec<_> = labels.iter().map(|l| number(l, "mag_r")).collect();
    magnitudes.sort_by(f64::total_cmp);
    assert!((16.8..17.3).contains(&magnitudes[2000]), "{}", magnitudes[2000]);
}

#[test]
fn fluxes_add_up_to_the_magnitudes() {
    let alone = "objects = 60\nsize = 700\npixels = 'flux'\nnoise = 0.0\nstars = 0.0\n\
                 neighbours = 0.0\nartefacts = 0.0";
    let survey = survey(alone);
    for index in 0..60 {
        let labels = survey.labels(index);
        // A de Vaucouleurs profile's mixture reaches eight radii.
        if number(&labels, "half_light_radius") > 10.0 {
            continue;
        }
        let fluxes = fluxes(&survey, index);
        for (band, name) in ["mag_g", "mag_r", "mag_z"].into_iter().enumerate() {
            let sum: f64 = fluxes.iter().skip(band).step_by(3).map(|&x| f64::from(x)).sum();
            let ratio = sum / photometry::flux(number(&labels, name));
            assert!((ratio - 1.0).abs() < 0.025, "object {index}, {name}: {ratio}");
        }
    }
}

/// Half the light of a picture without noise lies where the label says.
#[test]
fn half_light_radii_are_those_of_the_pictures() {
    let size = 300;
    let survey = survey(
        "objects = 12000\nsize = 300\npixels = 'flux'\nnoise = 0.0\nstars = 0.0\nneighbours = 0.0\n\
         artefacts = 0.0",
    );
    let mut ratios: [Vec<f64>; 2] = Default::default();
    for index in 0..12_000 {
        let galaxy = survey.galaxy(index);
        let label = galaxy.half_light_radius();
        // Large beside the seeing, small beside the stamp, and not so inclined that the bulge, which
        // is rounder than the disc, is seen otherwise than face-on.
        let plain = (4.0..9.0).contains(&label) && galaxy.morphology.cosine > 0.8;
        let kind = usize::from(galaxy.bar.is_some());
        if !plain || ratios[kind].len() >= 8 {
            continue;
        }
        let labels = survey.labels(index);
        assert_eq!(number(&labels, "half_light_radius"), label);
        let [_, flat] = galaxy.morphology.axis_ratios();
        let (s, c) = galaxy.morphology.position_angle.to_radians().sin_cos();
        let middle = [0, 1].map(|k| (size / 2) as f64 + galaxy.centre[k]);
        let mut light: Vec<(f64, f64)> = fluxes(&survey, index)
            .chunks(3)
            .enumerate()
            .map(|(at, bands)| {
                let (x, y) = ((at % size) as f64 - middle[0], (at / size) as f64 - middle[1]);
                let (along, across) = (-s * x - c * y, (c * x - s * y) / flat);
                (along.hypot(across), f64::from(bands[1]))
            })
            .collect();
        light.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = 0.5 * photometry::flux(number(&labels, "mag_r"));
        let mut sum = 0.0;
        let within = light.iter().find(|(_, flux)| {
            sum += flux;
            sum >= half
        });
        let radius = within.expect("half the light").0 * PIXEL_SCALE;
        ratios[kind].push(radius / label);
    }
    for (ratios, what) in ratios.iter_mut().zip(["without a bar", "with one"]) {
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        let said = format!("{} {what}: {least:.3} {median:.3} {most:.3}", ratios.len());
        assert!(ratios.len() == 8 && (median - 1.0).abs() < 0.03, "{said}");
        assert!(least > 0.9 && most < 1.1, "{said}");
    }
}

#[test]
fn artefacts_come_at_their_rate_and_get_votes() {
    let survey = survey("objects = 2000\nartefacts = 0.2");
    let spoilt: Vec<_> = (0..2000).filter(|&i| survey.artefact(i).is_some()).collect();
    assert!((330..470).contains(&spoilt.len()), "{}", spoilt.len());
    for index in spoilt {
        assert!(number(&survey.labels(index), "artefact") > 0.05);
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    for (line, key) in [
        ("artefacts = 1.5", "`artefacts`"),
        ("stars = -1.0", "`stars`"),
        ("neighbours = nan", "`neighbours`"),
        ("noise = inf", "`noise`"),
        ("size = 0", "`size`"),
    ] {
        let config: SyntheticConfig =
            toml::from_str(&format!("objects = 1\n{line}")).expect("a table");
        let error = config.check().expect_err(line).to_string();
        assert!(error.contains(key), "{error}");
    }
}
