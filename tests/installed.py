"""Installs a build into an empty prefix, moved from where it was installed to: what tests of the
installed tree stand on."""
import os
import subprocess


def run(*command, env=None, **more):
    print("+", " ".join(map(str, command)), flush=True)
    return subprocess.run(command, check=True, text=True, env=env, **more)


def clean_environment(prefix):
    """Nothing but the prefix says where libraries and packages are."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LD_", "PKG_CONFIG", "CMAKE"))}
    env["PKG_CONFIG_PATH"] = os.path.join(prefix, "lib", "pkgconfig")
    return env


def install(build, folder):
    """The prefix, and what was put outside it (nothing, if all is well)."""
    staged, prefix = os.path.join(folder, "staged"), os.path.join(folder, "moved")
    run("cmake", "--install", build, "--prefix", "/opt/troupe", stdout=subprocess.DEVNULL,
        env={**os.environ, "DESTDIR": staged})
    os.rename(os.path.join(staged, "opt", "troupe"), prefix)  # it must not matter where it lies
    beside = [os.path.join(at, name) for at, _, names in os.walk(staged) for name in names]
    return prefix, beside
