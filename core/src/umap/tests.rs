use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::*;

/// `each` objects around each of four corners of a cube, `width` numbers an object.
fn clusters(each: usize, width: usize) -> Features {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut data = Vec::new();
    for cluster in 0..4 {
        for _ in 0..each {
            let noise = |rng: &mut ChaCha8Rng| rng.sample::<f32, _>(StandardNormal);
            let place = |axis: usize| if axis == cluster { 12.0 } else { 0.0 };
            data.extend((0..width).map(|axis| place(axis) + noise(&mut rng)));
        }
    }
    Features::new(width, data).expect("whole rows")
}

#[test]
fn neighbours_are_those_of_a_plain_search() {
    let features = clusters(40, 7);
    let found = neighbours::nearest(&features, 9);
    for (i, near) in found.iter().enumerate() {
        let square = |j: usize| -> f64 {
            let pairs = features.row(i).iter().zip(features.row(j));
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let mut plain: Vec<usize> = (0..features.n).filter(|&j| j != i).collect();
        plain.sort_by(|&a, &b| square(a).total_cmp(&square(b)));
        let found: Vec<usize> = near.iter().map(|n| n.0 as usize).collect();
        assert_eq!(found, plain[..9]);
        assert!((f64::from(near[8].1) - square(plain[8]).sqrt()).abs() < 1e-4);
    }
}

#[test]
fn clusters_stay_together_and_seeds_repeat() {
    let features = clusters(60, 20);
    let config = UmapConfig { epochs: Some(200), ..UmapConfig::default() };
    let map = umap(&features, &config).expect("a map");
    assert_eq!(map, umap(&features, &config).expect("a map"));
    let other = UmapConfig { seed: 1, ..config };
    assert_ne!(map, umap(&features, &other).expect("a map"));
    let trust = trustworthiness(&features, &map, 15).expect("defined");
    assert!(trust > 0.9, "{trust}");
    for (i, place) in map.iter().enumerate() {
        let square = |j: usize| (map[j][0] - place[0]).powi(2) + (map[j][1] - place[1]).powi(2);
        let others = (0..map.len()).filter(|&j| j != i);
        let nearest = others.min_by(|&a, &b| square(a).total_cmp(&square(b))).expect("others");
        assert_eq!(nearest / 60, i / 60, "object {i} lies by {nearest}");
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let features = clusters(80, 300);
    let config = UmapConfig { epochs: Some(5), ..UmapConfig::default() };
    let maps = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| umap(&features, &config).expect("a map"))
    });
    assert_eq!(maps[0], maps[1]);
}

#[test]
fn trustworthiness_is_one_of_the_plane_itself_and_a_half_of_chance() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let data: Vec<f32> = (0..1000).map(|_| rng.random_range(0.0..1.0)).collect();
    let plane: Vec<[f32; 2]> = data.chunks_exact(2).map(|p| [p[0], p[1]]).collect();
    let features = Features::new(2, data).expect("whole rows");
    let perfect = trustworthiness(&features, &plane, 10).expect("defined");
    assert!(perfect > 0.999_99, "{perfect}");
    let mut shuffled = plane.clone();
    shuffled.rotate_left(173);
    let chance = trustworthiness(&features, &shuffled, 10).expect("defined");
    assert!((chance - 0.5).abs() < 0.05, "{chance}");
}

/// Four objects on a line whose map swaps two: by hand.
#[test]
fn trustworthiness_counts_ranks() {
    let features = Features::new(1, vec![0.0, 1.0, 3.0, 7.0]).expect("whole rows");
    let map = [[0.0, 0.0], [3.0, 0.0], [1.0, 0.0], [7.0, 0.0]];
    // The nearest on the map are 2, 2, 0 and 1, each one rank too far.
    let trust = trustworthiness(&features, &map, 1).expect("defined");
    assert!((trust - (1.0 - 2.0 / (4.0 * 4.0) * 4.0)).abs() < 1e-12, "{trust}");
}

#[test]
fn small_and_degenerate_features_have_a_map() {
    let config = UmapConfig { epochs: Some(20), ..UmapConfig::default() };
    for (width, data) in [
        (1, (0u8..30).map(f32::from).collect::<Vec<_>>()),
        (3, vec![2.5; 60]),
        (2, vec![0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
    ] {
        let features = Features::new(width, data).expect("whole rows");
        let map = umap(&features, &config).expect("a map");
        assert_eq!(map.len(), features.n);
        assert!(map.iter().flatten().all(|x| x.is_finite()));
    }
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let features = clusters(5, 3);
    let refused = |features: &Features, config: UmapConfig| {
        umap(features, &config).expect_err("refused").to_string()
    };
    let usual = UmapConfig::default;
    assert!(refused(&features, UmapConfig { neighbours: 1, ..usual() }).contains("neighbours"));
    assert!(refused(&features, UmapConfig { spread: 0.0, ..usual() }).contains("spread"));
    assert!(refused(&features, UmapConfig { min_dist: 2.0, ..usual() }).contains("min_dist"));
    let few = Features::new(2, vec![0.0; 6]).expect("whole rows");
    assert!(refused(&few, usual()).contains("at least 4 objects"));
    let mut broken = features.clone();
    broken.data[7] = f32::NAN;
    assert!(refused(&broken, usual()).contains("object 2"));
    assert!(trustworthiness(&features, &[[0.0; 2]; 3], 2).is_err());
    assert!(trustworthiness(&features, &[[0.0; 2]; 20], 10).is_err());
}
