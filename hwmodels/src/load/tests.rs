use super::*;

#[test]
fn every_chip_that_ships_loads() {
    for name in library::names() {
        match load(name, &[]) {
            Ok(chip) => {
                assert_eq!(chip.name, name);
                assert!(!chip.provenance.is_empty() && chip.hash.len() == 16);
                print(&chip);
            }
            Err(error) => assert_eq!(error.to_string(), "", "{name}"),
        }
    }
}

fn print(chip: &Chip) {
    println!("== {} {}", chip.name, chip.hash);
    for p in &chip.provenance {
        println!("{:40} {:>14} {:?} {:?} {}", p.path, p.value, p.range, p.status, p.source);
    }
    println!("area {:?}\nstatic {:?}", chip.area(), chip.static_power());
}
