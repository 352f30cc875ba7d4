-- Push each CT or MR series to Viscera once nothing more has arrived for it.
function OnStableSeries(seriesId, tags, metadata)
  if tags["Modality"] == "CT" or tags["Modality"] == "MR" then
    RestApiPost("/modalities/viscera/store",
                DumpJson({ Resources = { seriesId }, Synchronous = false }))
  end
end
