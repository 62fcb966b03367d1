"""Certificates of a cluster, made with openssl, so that the product is not held against itself."""

import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A CA in a folder of its own, and the certificates it signs."""

    def __init__(self, folder, cluster="kith"):
        self.folder, self.cluster = folder, cluster
        folder.mkdir(parents=True)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2", "-subj",
                f"/CN={cluster} nodes", "-keyout", folder / "ca.key", "-out", folder / "ca.crt",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")

    def sign(self, name, node="any"):
        """The configuration keys of a node with a certificate of this CA."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=URI:kith://{self.cluster}/node/{node}\n"
                              "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.folder / "ca.crt", "-CAkey", self.folder / "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)
        return {"node_ca_file": str(self.folder / "ca.crt"), "node_cert_file": str(certificate),
                "node_key_file": str(key)}
