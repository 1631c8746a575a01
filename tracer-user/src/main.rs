//! x
fn main() {
    let o = tracer::sensor::SensorOptions { btf: None, life_ring_bytes: 8<<20, file_ring_bytes: 4<<20 };
    match tracer::sensor::Sensor::load(&o) {
        Ok(s) => { for r in s.reports() { eprintln!("{} {:?}", r.probe.name, r.failure); } eprintln!("{:?}", s.missing_members()); std::thread::sleep(std::time::Duration::from_secs(1)); eprintln!("{:?}", s.drops()); }
        Err(e) => eprintln!("{e}"),
    }
}
