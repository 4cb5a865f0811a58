//! conex-oci.
