"""Ray and MLflow around `core`. No maths here."""
