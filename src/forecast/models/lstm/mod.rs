//! stub
use super::*;
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LstmSettings {
    pub fit_samples: usize,
    pub refit_samples: usize,
    pub update_samples: usize,
}
#[derive(Clone, Debug, Default)]
pub struct Lstm {}
impl Lstm {
    pub fn new(_: LstmSettings, _: u64) -> Self {
        Self {}
    }
    pub fn load(_: &[u8]) -> Result<Self> {
        Err(ForecastCrateError::NotFitted { model: "lstm".into() })
    }
    pub fn reseeded(&self, _: LstmSettings, _: u64) -> Self {
        Self {}
    }
    pub fn refit(&mut self, _: &Lesson<'_>) -> Result<()> {
        Err(ForecastCrateError::NotFitted { model: "lstm".into() })
    }
    pub fn knows(&self, _: &ServiceName) -> bool {
        false
    }
    pub fn has_learnt(&self, _: &str) -> bool {
        false
    }
    pub fn trained_on(&self) -> Span {
        Span::ZERO
    }
}
impl Forecaster for Lstm {
    fn kind(&self) -> ModelKind {
        ModelKind::Lstm
    }
    fn fit(&mut self, _: &Lesson<'_>) -> Result<()> {
        Err(ForecastCrateError::NotFitted { model: "lstm".into() })
    }
    fn update(&mut self, _: &Lesson<'_>) -> Result<()> {
        Err(ForecastCrateError::NotFitted { model: "lstm".into() })
    }
    fn predict(&self, _: &Request<'_>) -> Result<Vec<Vec<f64>>> {
        Err(ForecastCrateError::NotFitted { model: "lstm".into() })
    }
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}
