"""When a certificate ends, with OpenSSL as the judge."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

import certificates
from viscera.files.x509 import not_after


@pytest.mark.parametrize("days", [1, 400, 20_000])  # the last is past 2049: GeneralizedTime
def test_the_end_is_openssls(tmp_path, days):
    made = certificates.signed(certificates.authority(tmp_path, "ca"), "a", "DNS:a", days=days)
    der = ssl.PEM_cert_to_DER_cert(made.certificate.read_text())
    assert not_after(der).timestamp() == made.ends()
    for size in range(0, 60, 7):
        with pytest.raises(ValueError, match=r"not an X\.509 certificate"):
            not_after(der[:size])


@given(st.binary(max_size=200))
def test_noise_is_no_certificate(noise):
    with pytest.raises(ValueError, match=r"not an X\.509 certificate"):
        not_after(noise)
