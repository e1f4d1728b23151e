// Inside another page, such as the tab "Report" of Airflow, a link may open no other page. Links to this server open in the
// frame instead. Any other link shows its address, to be copied.
if (window.self !== window.top) {
  for (const link of document.querySelectorAll("a[target=_blank]")) {
    if (new URL(link.href).origin === window.location.origin) {
      link.removeAttribute("target");
      continue;
    }
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const said = document.createElement("span");
      said.className = "address";
      said.textContent = `Links to other servers do not open inside this frame. The address is ${link.href}`;
      document.querySelectorAll(".address").forEach((earlier) => earlier.remove());
      link.after(said);
    });
  }
}
